"""The listener, with dcmtk and strangers as its senders: what is answered with success is safe, nobody holds it up."""

from __future__ import annotations

import contextlib
import io
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless, PrivateTransferSyntaxes
from pynetdicom import AE, build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.sop_class import CTImageStorage, Verification
from sqlalchemy.exc import OperationalError

from medseg.service import logs, port, strangers, wire
from medseg.service.intake import listener as listening
from medseg.service.intake.listener import Listener
from medseg.service.intake.spool import Spool
from medseg.service.journal import Journal
from tests import judges
from tests.service.hospital import until
from tests.service.intake_sites import image, save, send, site_in, store_in

DCMTK = judges.needs("storescu")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


class Rig:
    """A listener that runs in this process."""

    def __init__(self, folder: Path, journal: Journal, store: object, **listen: object):
        self.folder, self.journal, self.store = folder, journal, store
        self.site = site_in(folder, listen={"port": 0, "allow": ["CT1", "CT2"], **listen})
        self.listener = Listener(self.site, journal, store)  # type: ignore[arg-type]
        self.listener.start()

    @property
    def port(self) -> int:
        return self.listener.port

    def outcomes(self) -> list[str]:
        return [f"{entry.who}: {entry.outcome}" for _, entry in self.journal.audit.entries()]

    def ends(self, words: str) -> None:
        """An association has ended so."""
        until(lambda: any(words in outcome for outcome in self.outcomes()), words, within_s=60, every_s=0.05)


@pytest.fixture
def rig(tmp_path) -> Iterator[Callable[..., Rig]]:
    with contextlib.ExitStack() as stack:

        def make(**listen: object) -> Rig:
            journal = Journal(tmp_path / "journal.sqlite")
            stack.callback(journal.close)
            largest = listen.get("largest_mib", 100)
            store = stack.enter_context(store_in(tmp_path, journal, listen={"largest_mib": largest}))
            made = Rig(tmp_path, journal, store, **listen)
            stack.callback(made.listener.stop)
            return made

        yield make


@contextlib.contextmanager
def calling(
    rig: Rig, *contexts: object, title: str = "CT1", called: str = "MEDSEG", address: str = "127.0.0.1"
) -> Iterator[object]:
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    association = entity.associate(
        "127.0.0.1", rig.port, contexts=list(contexts), ae_title=called, bind_address=(address, 0)
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


CT = build_context(CTImageStorage)


def sends_at_once(rig: Rig, scan: Dataset) -> bool:
    """Whether an object is taken; on a busy machine, a second may pass before it is sent, which may be too late."""
    with calling(rig, CT) as association, contextlib.suppress(RuntimeError):  # pynetdicom's: cut off
        return association.send_c_store(scan).get("Status") == 0
    return False


@DCMTK[0]
@DCMTK[1]
def test_studies_sent_by_dcmtk_are_kept_in_each_transfer_syntax(rig, tmp_path):
    made = rig()
    paths = [save(image(number), tmp_path / f"{number}.dcm") for number in (1, 2, 3)]
    packed = tmp_path / "packed.dcm"
    subprocess.run(["dcmcjpls", paths[2], packed], check=True, timeout=60)
    assert (
        subprocess.run(
            [judges.program("echoscu"), "-aet", "CT1", "-aec", "MEDSEG", "127.0.0.1", str(made.port)]
        ).returncode
        == 0
    )
    assert send(made.port, *paths[:2]) and send(made.port, packed, more=("-xt",)) and send(made.port, paths[0])
    counts = made.journal.arrivals.counts()
    assert (counts.received, counts.duplicates, counts.studies) == (4, 1, 1)
    for one in made.journal.arrivals.current(image(1).StudyInstanceUID):
        kept = dcmread(tmp_path / "data" / one.path)
        assert one.sender == "CT1" and kept.PatientID == "P1" and len(kept.PixelData)
    assert kept.file_meta.TransferSyntaxUID == JPEGLSLossless
    made.ends("CT1 at 127.0.0.1: done, 2 objects")
    made.ends("CT1 at 127.0.0.1: done, 0 objects")


def test_only_who_may_gets_in_and_only_at_the_right_address(rig):
    made = rig()
    for title, called, reason in (("EVIL", "MEDSEG", 3), ("CT1", "OTHER", 7)):
        with calling(made, CT, title=title, called=called) as refused:
            assert refused.is_rejected and refused.acceptor.primitive.diagnostic == reason
            assert refused.acceptor.primitive.result == 1
    made.ends("EVIL at 127.0.0.1: refused: not allowed")
    made.ends("CT1 at 127.0.0.1: refused: it calls OTHER")
    with calling(made, CT, title="CT2") as taken:
        assert taken.is_established


def test_who_is_refused_again_and_again_does_not_fill_the_record(rig):
    made = rig()
    for _ in range(strangers.OFTEN + 5):
        with calling(made, CT, title="EVIL"):
            pass
    with calling(made, CT) as good:
        assert good.is_established
    made.listener.stop()  # then all of them are written down
    assert made.outcomes().count("EVIL at 127.0.0.1: refused: not allowed") == strangers.OFTEN
    assert made.outcomes().count("CT1 at 127.0.0.1: done, 0 objects") == 1


def test_what_no_one_could_read_is_refused_before_it_is_sent(rig):
    made = rig()
    private = "1.3.12.2.1107.5.9.1"
    contexts = [
        build_context(private),
        build_context("1.2.840.10008.5.1.4.1.1.9999"),
        build_context("1.2.840.10008.5.1.4.1.2.2.1"),  # a query, which is no storage
        build_context(CTImageStorage, ["1.2.840.113619.5.2", *PrivateTransferSyntaxes]),
        CT,
        build_context(Verification),
    ]
    with calling(made, *contexts) as association:
        assert [one.context_id for one in association.accepted_contexts] == [9, 11]
        assert [one.result for one in association.rejected_contexts] == [3, 3, 3, 4]
        assert association.send_c_echo().Status == 0


def test_more_associations_than_allowed_are_told_to_come_again(rig):
    made = rig(associations=2)
    with calling(made, CT) as first, calling(made, CT) as second, calling(made, CT) as third:
        assert first.is_established and second.is_established and third.is_rejected
        answer = third.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == listening.TOO_MANY
    made.ends("refused: 2 associations already")
    made.ends("done, 0 objects")
    until(lambda: not made.listener._visitors(), "all have gone", within_s=60)
    with calling(made, CT) as again:
        assert again.is_established


def test_without_room_nothing_more_is_taken(rig, tmp_path, monkeypatch):
    made = rig()
    full = False
    monkeypatch.setattr(made.listener._room, "full", lambda: "no room at all" if full else "")
    limits = listening.Limits(made.store.incoming, 2**30, made.listener._room.full)
    made.listener._server.parts = partial(Spool, limits=limits)
    with calling(made, CT) as association:
        assert association.send_c_store(image(1)).Status == 0
        full = True
        assert association.send_c_store(image(2)).Status == 0xA700
        full = False
        assert association.send_c_store(image(3)).Status == 0
        full = True
    with calling(made, CT) as refused:
        answer = refused.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == listening.CONGESTED
    assert made.journal.arrivals.counts().received == 2
    made.ends("done, 2 objects, 1 refused")
    made.ends("refused: no room at all")


def test_an_error_of_the_journal_lets_nobody_count_as_here_for_ever(rig, monkeypatch):
    made = rig(associations=1)
    add, failed = made.journal.audit.add, threading.Event()

    def fails_once(*words):
        if not failed.is_set():
            failed.set()
            raise OperationalError("insert", {}, Exception("server closed the connection"))
        add(*words)

    monkeypatch.setattr(made.journal.audit, "add", fails_once)
    with calling(made, CT) as association:
        assert association.is_established
    made.ends("done, 0 objects")
    assert failed.is_set()
    with calling(made, CT) as association:
        assert association.is_established


def test_a_full_disk_is_said_and_nothing_is_left(rig, monkeypatch, caplog):
    made = rig()
    add = made.journal.arrivals.add
    monkeypatch.setattr(made.journal.arrivals, "add", lambda batch: (_ for _ in ()).throw(OSError(28, "full")))
    with calling(made, CT) as association:
        assert association.send_c_store(image(1)).Status == 0xA700
        monkeypatch.setattr(
            made.journal.arrivals, "add", lambda batch: (_ for _ in ()).throw(RuntimeError("Mueller^Anna"))
        )
        assert association.send_c_store(image(1)).Status == 0x0110
        [said] = [one for one in caplog.records if one.getMessage() == "an object could not be kept"]
        assert "RuntimeError < test_listener.py" in said.facts["error"] and "Mueller" not in logs.Lines().format(said)
        monkeypatch.setattr(made.journal.arrivals, "add", add)
        assert association.send_c_store(image(1)).Status == 0
    assert not list(made.store.incoming.iterdir())


def test_objects_that_are_wrong_are_refused_and_those_after_them_taken(rig):
    made = rig(largest_mib=0.1)
    outside = image(4)
    outside.StudyInstanceUID = "../../outside"
    large = image(5)
    large.PixelData = bytes(150_000)
    with calling(made, CT) as association:
        statuses = [association.send_c_store(dataset).Status for dataset in (outside, large, image(6))]
        mixed = image(7)
        mixed.SOPInstanceUID = "1.2.3"
        statuses.append(raw_store(association, mixed, "1.2.3.4"))
        statuses.append(raw_store(association, image(8), "../../../etc/passwd"))
        statuses.append(association.send_c_store(image(9)).Status)
    assert statuses == [0xC000, 0xC000, 0, 0xA900, 0xC000, 0]
    assert made.journal.arrivals.counts().received == 2 and not list(made.store.incoming.iterdir())
    made.ends("done, 2 objects, 4 refused")


def raw_store(association: object, dataset: Dataset, uid: str) -> int:
    """Send a data set under a UID that need not be its own."""
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    asked = C_STORE()
    asked.MessageID, asked.AffectedSOPClassUID, asked.Priority = 7, CTImageStorage, 2
    asked._affected_sop_instance_uid = uid  # whatever it is
    asked.DataSet = io.BytesIO(encode(dataset, True, True))
    [context] = association.accepted_contexts  # type: ignore[attr-defined]
    association._reactor_checkpoint.clear()  # type: ignore[attr-defined]
    association.dimse.send_msg(asked, context.context_id)  # type: ignore[attr-defined]
    _, answer = association.dimse.get_msg(block=True)  # type: ignore[attr-defined]
    association._reactor_checkpoint.set()  # type: ignore[attr-defined]
    return answer.Status


def requests(title: str = "CT1") -> bytes:
    """An A-ASSOCIATE-RQ as it goes over the wire, for CT images."""
    entity = AE(title)
    seen = []
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()
        thread = threading.Thread(
            target=lambda: seen.append(entity.associate("127.0.0.1", port.getsockname()[1], contexts=[CT]))
        )
        entity.acse_timeout = 60
        thread.start()
        other, _ = port.accept()
        other.settimeout(60)
        found = b""
        while len(found) < 6 or len(found) < 6 + struct.unpack(">L", found[2:6])[0]:
            found += other.recv(65536)
        other.close()
        thread.join(timeout=60)
    asked = A_ASSOCIATE_RQ()
    asked.decode(found)
    return found.replace(b"ANY-SCP         ", b"MEDSEG          ")


def gone(connection: socket.socket) -> bool:
    """Whether the other side closes within the test's patience, whatever it says before."""
    connection.settimeout(60)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "start",
    [b"", b"\x01", b"\x01\x00\x00\x00\x10\x00", b"\x01\x00\x00\x00\x10\x00" + bytes(100)],
    ids=["nothing", "a byte", "a promise", "half a request"],
)
def test_who_connects_and_says_nothing_more_is_let_go(rig, start):
    made = rig(idle_s=1.0)
    with socket.create_connection(("127.0.0.1", made.port)) as silent:
        silent.sendall(start)
        assert gone(silent)
    until(lambda: not made.listener._server.visits, "it is written down", within_s=60)


def test_who_only_drips_is_let_go_and_holds_nobody_up(rig):
    made = rig(idle_s=1.0)
    ask = requests()
    with socket.create_connection(("127.0.0.1", made.port)) as slow:
        slow.sendall(ask)
        assert slow.recv(1) == b"\x02"
        ended = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                slow.sendall(b"\x04\x00\x00\x01\x00\x00")
                while not ended.wait(0.05):
                    slow.sendall(b"\0")

        thread = threading.Thread(target=drip)
        thread.start()
        until(lambda: sends_at_once(made, image(1)), "another is heard", within_s=60)
        made.ends("ended: nothing complete within 1 s")
        ended.set()
        thread.join(timeout=60)


def test_a_pdu_of_gigabytes_takes_no_memory(rig, caplog):
    caplog.set_level("INFO")
    made = rig()
    for start in (b"\x01\x00\xff\xff\xff\xff", requests() + b"\x04\x00\xff\xff\xff\xf0"):
        with socket.create_connection(("127.0.0.1", made.port)) as liar:
            liar.sendall(start + bytes(1000))
            assert gone(liar)
    until(lambda: "ended: a PDU of 4294967295 bytes" in logged(caplog), "it is in the log", within_s=60)
    made.ends("CT1 at 127.0.0.1: ended: a PDU of 4294967280 bytes")


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """How associations ended, by the log."""
    facts = [getattr(one, "facts", {}) for one in caplog.records]
    return [one["outcome"] for one in facts if "outcome" in one]


def test_whoever_asks_for_no_association_is_in_the_log_alone(rig, caplog):
    caplog.set_level("INFO")
    made = rig()
    for start in (b"", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", made.port)) as stranger:
            stranger.sendall(start)
            stranger.shutdown(socket.SHUT_WR)
            assert gone(stranger)
    with calling(made, CT):
        pass
    made.ends("CT1 at 127.0.0.1: done, 0 objects")
    until(lambda: not made.listener._server.visits, "all are concluded", within_s=60)
    assert len(made.outcomes()) == 1 and len(logged(caplog)) == 3


def test_connections_of_some_addresses_leave_room_for_others(rig, monkeypatch):
    monkeypatch.setattr(wire, "ASK_S", 60.0)  # none of them goes by itself
    made = rig(associations=2)
    places, taken = 2 * (2 + port.BESIDE), 0
    with contextlib.ExitStack() as stack:
        for address in ("127.0.0.2", "127.0.0.3"):
            taken += (places - taken) // 2
            for _ in range(3 * port.BESIDE):
                stack.enter_context(socket.create_connection(("127.0.0.1", made.port), source_address=(address, 0)))
            until(lambda taken=taken: len(made.listener._server.visits) >= taken, "they are there", within_s=60)
        with calling(made, CT) as another:
            assert another.is_established


def test_two_addresses_with_all_associations_leave_one_for_each_other(rig):
    made = rig(associations=2)
    with calling(made, CT, address="127.0.0.2") as first, calling(made, CT, address="127.0.0.3") as second:
        assert first.is_established and second.is_established
        with calling(made, CT) as other, calling(made, CT) as more:
            assert other.is_established and other.send_c_store(image(1)).Status == 0 and more.is_rejected
    made.ends("refused: 3 associations already")


@pytest.mark.parametrize("others", [0, 2])
def test_who_opens_an_association_for_each_object_is_let_in_whatever_is_on_record_by_then(rig, others, monkeypatch):
    made = rig(associations=2)
    monkeypatch.setattr(made.listener, "_conclude", lambda: None)  # of a journal that is slow
    with contextlib.ExitStack() as stack:
        for n in range(others):
            assert stack.enter_context(calling(made, CT, address=f"127.0.0.{2 + n}")).is_established
        for number in range(5):
            with calling(made, CT) as one:
                assert one.is_established and one.send_c_store(image(number + 1)).Status == 0
            until(lambda: len(made.listener._visitors()) == others, "it has ended", within_s=20, every_s=0.01)
    monkeypatch.undo()
    made.ends("done, 1 objects")


def test_who_is_not_let_in_yet_is_waited_for_less_long(rig, monkeypatch):
    monkeypatch.setattr(wire, "ASK_S", 0.2)
    made = rig()
    for start in (b"", b"\x01"):
        with socket.create_connection(("127.0.0.1", made.port)) as silent:
            silent.sendall(start)
            assert gone(silent)
    early, patient = (wire.Visit("127.0.0.1", 60.0, accepted=accepted) for accepted in (False, True))
    for visit in (early, patient):
        visit._mark -= 1
    patient.refuse_idle()
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        early.refuse_idle()


def test_an_object_far_larger_than_any_may_be_takes_no_room_and_those_after_it_are_taken(rig):
    made = rig(largest_mib=0.5)
    with calling(made, CT) as association:
        huge = image(1)
        huge.PixelData = bytes(2**22)
        assert [association.send_c_store(one).Status for one in (huge, image(2))] == [0xC000, 0]
    made.ends("done, 1 objects, 1 refused")
    assert not list(made.store.incoming.iterdir()) and made.journal.arrivals.counts().received == 1


def test_who_goes_in_the_middle_of_an_object_leaves_nothing(rig):
    made = rig()
    with socket.create_connection(("127.0.0.1", made.port)) as connection:
        connection.sendall(requests())
        assert connection.recv(1) == b"\x02"
        connection.sendall(store_request(1) + pdata(1, 0, bytes(5000)))
        until(lambda: bool(list(made.store.incoming.iterdir())), "it has begun", within_s=60)
    made.ends("CT1 at 127.0.0.1: aborted")
    assert not list(made.store.incoming.iterdir()) and made.journal.arrivals.counts().received == 0


def store_request(context: int) -> bytes:
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    asked = C_STORE()
    asked.MessageID, asked.AffectedSOPClassUID, asked.Priority = 1, CTImageStorage, 2
    asked.AffectedSOPInstanceUID, asked.DataSet = "1.2.3", io.BytesIO(b"x")
    message = C_STORE_RQ()
    message.primitive_to_message(asked)
    command = next(message.encode_msg(context, 0)).presentation_data_value_list[0][1]
    return pdata(context, command[0], command[1:])


def pdata(context: int, control: int, data: bytes) -> bytes:
    value = struct.pack(">LBB", len(data) + 2, context, control) + data
    return struct.pack(">BBL", 4, 0, len(value)) + value


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_strange_bytes_end_their_connection_and_nothing_else(rig):
    made = rig(idle_s=1.0)
    draw = random.Random(7)
    ask, store = requests(), store_request(1)
    bodies = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(200), ask[:-7], ask + store + pdata(1, 2, b"")]
    for _ in range(40):
        whole = bytearray(ask + store + pdata(1, 2, bytes(300)))
        for _ in range(draw.randint(1, 12)):
            whole[draw.randrange(len(whole))] = draw.randrange(256)
        bodies.append(bytes(whole))
    bodies += [ask + pdata(1, 3, draw.randbytes(draw.randint(0, 400))) for _ in range(20)]
    bodies += [draw.randbytes(draw.randint(1, 2000)) for _ in range(20)]
    with contextlib.ExitStack() as stack:
        for start in range(0, len(bodies), 14):
            some = []
            for body in bodies[start : start + 14]:
                some.append(stack.enter_context(socket.create_connection(("127.0.0.1", made.port))))
                with contextlib.suppress(OSError):
                    some[-1].sendall(body)
            for connection in some:
                assert gone(connection)
                connection.close()
    until(lambda: not made.listener._server.visits, "all are written down", within_s=60)
    assert made.journal.arrivals.counts().received == 0 and not list(made.store.incoming.iterdir())
    until(lambda: sends_at_once(made, image(1)), "an object is taken", within_s=60)


def test_it_drains(rig):
    made = rig()
    with calling(made, CT) as running:
        assert running.send_c_store(image(1)).Status == 0
        stopping = threading.Thread(target=lambda: made.listener.stop(grace_s=60))
        stopping.start()
        until(lambda: made.listener._draining, "it stops", within_s=60, every_s=0.01)
        with calling(made, CT) as late:
            answer = late.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == listening.CONGESTED
        assert running.send_c_store(image(2)).Status == 0
        assert stopping.is_alive()
    stopping.join(timeout=60)
    assert not stopping.is_alive() and made.journal.arrivals.counts().received == 2
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", made.port)):
        pass
    made.ends("done, 2 objects")
    made.ends("refused: medseg stops")


def test_who_does_not_end_is_ended(rig):
    made = rig()
    with calling(made, CT) as running:
        start = time.monotonic()
        made.listener.stop(grace_s=0.1)
        until(lambda: running.is_aborted, "it was told", within_s=60)
        assert time.monotonic() - start < 60
    made.ends("ended: medseg stops, 0 objects")
