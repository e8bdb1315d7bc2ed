"""Objects that come in: on the disk and in the journal before anybody is answered, each once, and nothing outside."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.refusal import Refusal
from medseg.service.intake import head
from medseg.service.intake.room import Room
from medseg.service.journal import Journal
from medseg.service.journal.arrivals import Counts
from medseg.service.journal.objects import Received, digest
from medseg.service.web import tokens
from medseg.service.work import liveness
from tests.service.intake_sites import STUDY, hand_in, image, save, site_in, store_in
from tests.tiny import ENVIRONMENT


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_what_comes_in_is_there_once_and_counted(journal, tmp_path):
    with store_in(tmp_path, journal) as store:
        states = [hand_in(store, image(number)).state for number in (1, 2, 1)]
        corrected = hand_in(store, image(2, SeriesDescription="mended"))
        again = hand_in(store, image(2), "CT2")
    assert (*states, corrected.state, again.state) == ("new", "new", "duplicate", "corrected", "duplicate")
    assert journal.arrivals.counts() == Counts(received=5, duplicates=2, corrected=1, studies=1, open=1)
    current = journal.arrivals.current(STUDY)
    assert [one.sop_uid for one in current] == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    for one in current:
        kept = tmp_path / "data" / one.path
        assert kept.stat().st_size == one.bytes and head.sha256(kept, head.read(kept)) == one.sha256
    assert b"mended" in (tmp_path / "data" / current[1].path).read_bytes()
    assert len(files(tmp_path / "data" / "objects")) == 3 and not files(tmp_path / "data" / "incoming")


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_the_data_folder_is_its_owners_alone(journal, tmp_path):
    """Whoever makes it: the programs that take in, work and serve, and a journal."""
    before = os.umask(0o022)
    try:
        with store_in(tmp_path / "a", journal), liveness.alive(liveness.folder(tmp_path / "b" / "data"), "w"):
            Room(site_in(tmp_path / "c", keep={"free_gib": 0})).full()
            Journal(tmp_path / "d" / "data" / "journal.sqlite").close()
            tokens.add(tmp_path / "e" / "data" / "tokens.yaml", "anna", "read")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / one / "data").stat().st_mode) for one in "abcde"] == [0o700] * 5


def test_who_stored_an_object_does_not_make_it_another(journal, tmp_path):
    with store_in(tmp_path, journal) as store:
        assert hand_in(store, image(1)).state == "new"
        other = image(1)
        other.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
        assert hand_in(store, other).state == "duplicate"
        other.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        assert hand_in(store, other).state == "corrected"
        other.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        assert hand_in(store, other).state == "corrected"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"StudyInstanceUID": "../../../etc/passwd"}, "bad-uid"),
        ({"SOPInstanceUID": "1.2/../../3"}, "bad-uid"),
        ({"SeriesInstanceUID": "1" * 65}, "bad-uid"),
        ({"SeriesInstanceUID": ""}, "bad-uid"),
        ({"StudyInstanceUID": "."}, "bad-uid"),
        ({"StudyInstanceUID": ["1.2", "1.3"]}, "bad-uid"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_uids_that_lead_elsewhere_are_refused(tmp_path, change, code):
    journal = Journal(tmp_path / "journal.sqlite")
    before = files(tmp_path)
    with store_in(tmp_path, journal) as store:
        dataset = image(1)
        for name, value in change.items():
            setattr(dataset, name, value)
        with pytest.raises(Refusal) as refused:
            hand_in(store, dataset)
    journal.close()
    assert refused.value.code == code and "what has sent it" in str(refused.value)
    assert set(files(tmp_path)) <= {*before, tmp_path / "journal.sqlite"}


def test_other_objects_and_other_files_than_promised_are_refused(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    with store_in(tmp_path, journal, listen={"largest_mib": 0.01}) as store:
        path = save(image(1), store.incoming / "a")
        for found, code, options in (
            (path.read_bytes(), "mismatch", {"sop_uid": "1.2.3"}),
            (b"PK\x03\x04" + bytes(500), "no-dicom", {}),
            (b"", "no-dicom", {}),
            (bytes(128) + b"DICM" + b"\xff" * 300, "bad-uid", {}),
            (path.read_bytes() + bytes(20000), "too-large", {}),
        ):
            path.write_bytes(found)
            with pytest.raises(Refusal) as refused:
                store.keep(path, "CT1", **options)
            assert refused.value.code == code and path.exists()
    assert journal.arrivals.counts().received == 0
    journal.close()


def test_a_head_costs_no_more_than_its_size(tmp_path):
    """A list of references that never ends, before the UIDs: it is read no further than the start."""
    start = save(image(1), tmp_path / "a").read_bytes()
    begins, items = head.read(tmp_path / "a").begins, b"\xfe\xff\x00\xe0\0\0\0\0" * (head.START_BYTES // 4)
    bomb = start[:begins] + b"\x08\x00\x06\x00SQ\0\0\xff\xff\xff\xff" + items
    for rest in (b"", b"\xfe\xff\xdd\xe0\0\0\0\0" + start[begins:]):
        (tmp_path / "b").write_bytes(bomb + rest)
        with pytest.raises(Refusal) as refused:
            head.read(tmp_path / "b")
        assert refused.value.code in ("bad-uid", "no-dicom")
    deflated = image(1)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.PixelData = bytes(2**24)
    assert head.read(save(deflated, tmp_path / "c")).sop_uid == deflated.SOPInstanceUID
    assert (tmp_path / "c").stat().st_size < 2**16


def test_threads_that_hand_in_at_once_share_transactions(journal, tmp_path, monkeypatch):
    batches, add = [], journal.arrivals.add
    monkeypatch.setattr(journal.arrivals, "add", lambda batch: batches.append(len(batch)) or add(batch))
    with store_in(tmp_path, journal) as store:
        paths = [save(image(number % 60), store.incoming / f"{number}.part") for number in range(120)]
        barrier = threading.Barrier(12)

        def go(number: int) -> list[str]:
            barrier.wait(timeout=60)
            return [store.keep(path, f"CT{number}").state for path in paths[number::12]]

        with ThreadPoolExecutor(12) as threads:
            states = [state for found in threads.map(go, range(12)) for state in found]
    assert sorted(states) == ["duplicate"] * 60 + ["new"] * 60 and sum(batches) == 120 and max(batches) > 1
    assert journal.arrivals.counts() == Counts(received=120, duplicates=60, corrected=0, studies=1, open=1)


def test_processes_that_hand_in_the_same_at_once(where, tmp_path):
    journals = [Journal(where) for _ in range(4)]
    received = [
        Received("1.2", "1.2.1", f"1.2.1.{n}", "1.2.840.10008.5.1.4.1.1.2", f"{n:064x}", 1, f"objects/{n}", "CT1")
        for n in range(40)
    ]

    def go(number: int) -> list[str]:
        order = received[number * 10 :] + received[: number * 10]
        return [state for n in range(0, 40, 5) for state in journals[number].arrivals.add(order[n : n + 5])]

    with ThreadPoolExecutor(4) as threads:
        states = [state for found in threads.map(go, range(4)) for state in found]
    counts = journals[0].arrivals.counts()
    for journal in journals:
        journal.close()
    assert sorted(states) == ["duplicate"] * 120 + ["new"] * 40
    assert counts == Counts(received=160, duplicates=120, corrected=0, studies=1, open=1)


def test_one_that_cannot_be_recorded_leaves_nothing_and_is_not_answered(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.sqlite")
    with store_in(tmp_path, journal) as store:
        monkeypatch.setattr(journal.arrivals, "add", lambda batch: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            hand_in(store, image(1))
        assert not files(store.incoming)
        monkeypatch.undo()
        assert hand_in(store, image(1)).state == "new"
    journal.close()


def test_what_a_kill_leaves_is_taken_over_or_cleared_away(tmp_path):
    """Killed between the disk and the journal: whole files are kept, halves go, and nothing is there twice."""
    script = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom medseg.service.journal import Journal\n"
        "from medseg.service.intake.store import Store\nfrom tests.service.intake_sites import *\n"
        "folder = Path(sys.argv[1])\njournal = Journal(folder / 'journal.sqlite')\nadd = journal.arrivals.add\n"
        "store = Store(site_in(folder), journal)\nhand_in(store, image(1))\n"
        "(store.incoming / 'half.part').write_bytes(b'half')\n"
        "def die(batch):\n    if sys.argv[2] == 'after':\n        add(batch)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "journal.arrivals.add = die\nhand_in(store, image(2))\n"
    )
    for moment in ("before", "after"):
        folder = tmp_path / moment
        done = subprocess.run([sys.executable, "-c", script, str(folder), moment], env=ENVIRONMENT, timeout=120)
        assert done.returncode == -signal.SIGKILL
        assert len(files(folder / "data" / "incoming")) == 2
        journal = Journal(folder / "journal.sqlite")
        with store_in(folder, journal) as store:
            assert journal.arrivals.counts() == Counts(received=2, duplicates=0, corrected=0, studies=1, open=1)
            assert [path for path in (folder / "data" / "incoming").iterdir() if path.is_dir()] == [store.incoming]
            assert len(files(folder / "data" / "objects")) == 2 and not files(store.incoming)
        journal.close()


def test_processes_that_live_are_left_alone(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    with store_in(tmp_path, journal) as store:
        half = store.incoming / "half.part"
        half.write_bytes(b"half")
        with store_in(tmp_path, journal) as other:
            assert half.exists() and other.incoming != store.incoming
    assert not list((tmp_path / "data" / "incoming").iterdir())
    journal.close()


EVENTS = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=25)


@settings(deadline=None, max_examples=40)
@given(EVENTS)
def test_whatever_comes_a_study_is_its_newest_objects(tmp_path_factory, events):
    """(study, object, version, whether the study is then closed)"""
    journal = Journal(tmp_path_factory.mktemp("law") / "journal.sqlite")
    newest: dict[tuple[str, str], str] = {}
    seen: set[str] = set()
    from medseg.service.journal.job import Asked

    for study, number, version, closes in events:
        uid = f"1.{study}"
        sha256 = f"{study}{number}{version}"
        one = Received(uid, f"{uid}.1", f"{uid}.1.{number}", "1.2", sha256, 1, sha256, "CT1")
        [state] = journal.arrivals.add([one])
        expected = "duplicate" if sha256 in seen else "corrected" if (uid, one.sop_uid) in newest else "new"
        assert state == expected
        if state != "duplicate":
            newest[uid, one.sop_uid] = sha256
            assert [arrival.study_uid for arrival in journal.arrivals.open(uid)] == [uid]
        seen.add(sha256)
        for arrival in journal.arrivals.open(uid) if closes else ():
            asked = Asked({"all": "x"}, digest(journal.arrivals.current(uid)), "c", arrival=arrival.id)
            assert journal.arrivals.close(arrival.id, asked, who="a")
            assert journal.arrivals.close(arrival.id, asked, who="a") is None and not journal.arrivals.open(uid)
    for study in ("1.1", "1.2"):
        found = {(one.study_uid, one.sop_uid): one.sha256 for one in journal.arrivals.current(study)}
        assert found == {key: value for key, value in newest.items() if key[0] == study}
    counts = journal.arrivals.counts()
    assert (counts.received, counts.duplicates) == (len(events), len(events) - len(seen))
    assert counts.corrected == len(seen) - len(newest)
    journal.close()


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_damaged_objects_are_kept_or_refused_and_nothing_else(tmp_path):
    """Headers with wrong bytes, cut ones, and lengths of gigabytes: never an error, never anything left behind."""
    journal, draw = Journal(tmp_path / "journal.sqlite"), random.Random(11)
    outcomes = []
    with store_in(tmp_path, journal) as store:
        whole = save(image(1), store.incoming / "a").read_bytes()
        begins = head.read(store.incoming / "a").begins
        for number in range(150):
            body = bytearray(whole)
            for _ in range(draw.randint(1, 6)):
                body[draw.randrange(132, begins + 600)] = draw.randrange(256)
            if number % 3 == 0:
                body[begins + 6 : begins + 8] = b"\xff\xff"
            elif number % 3 == 1:
                body = body[: draw.randrange(len(body))]
            elif number % 5 == 0:
                body[begins:begins] = b"\x08\x00\x01\x00UN\0\0\xf0\xff\xff\xff"  # 4 GiB of something, it says
            part = store.incoming / f"{number}.part"
            part.write_bytes(body)
            try:
                outcomes.append(store.keep(part, "CT1").state)
            except Refusal as refusal:
                outcomes.append(refusal.code)
                part.unlink()
        (store.incoming / "a").unlink()
        assert not files(store.incoming)
    assert {"no-dicom", "bad-uid", "new"} <= set(outcomes) <= {"no-dicom", "bad-uid", "new", "duplicate", "corrected"}
    kept = {one.name for one in (tmp_path / "data" / "objects").rglob("*.dcm")}
    assert len(kept) == journal.arrivals.counts().received - journal.arrivals.counts().duplicates
    journal.close()
