"""Studies fetched from archives: from Orthanc in every way, and from archives that break what they promise."""

from __future__ import annotations

import io
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from medseg.refusal import Refusal
from medseg.service.intake import asking, dicomweb, fetching, multipart, query
from medseg.service.intake.closing import Closing
from medseg.service.intake.store import Store
from medseg.service.journal import Journal
from medseg.service.journal.arrivals import Counts
from medseg.service.operations import retention
from medseg.service.settings.site import load
from medseg.service.wire import Parts, Provider, Visit
from tests import judges
from tests.judges import free_port
from tests.service.answering import Answers, answered_by
from tests.service.certificates import certificates
from tests.service.hospital import Hospital, hospital, until
from tests.service.intake_sites import image, save
from tests.service.test_closing import Clock
from tests.tiny import medseg_command

ROOT = "1.2.826.0.1.3680043.8.498.88"
ORTHANC = pytest.param("", marks=judges.needs("Orthanc", "dcmcjpeg"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Hospital]:
    """An Orthanc with three studies: two of P1 (one of them with a compressed slice), one of P2."""
    folder = tmp_path_factory.mktemp("archive")
    with hospital(folder) as made:
        made.introduce()
        for number, (patient, date) in enumerate((("P1", "20261101"), ("P1", "20261105"), ("P2", "20261103")), 1):
            for n in (1, 2, 3):
                about = {"PatientID": patient, "StudyDate": date, "AccessionNumber": f"A{number}"}
                about |= {"StudyDescription": "CT of the chest" if number == 3 else "CT abdomen"}
                path = save(image(n, study=f"{ROOT}.{number}", **about), folder / "files" / f"{number}-{n}.dcm")
                if (number, n) == (1, 3):
                    subprocess.run(["dcmcjpls", path, path], check=True, timeout=60)
                made.keep(path)
        yield made


def site_for(folder: Path, archive: Hospital, **more: object) -> Path:
    """A site with that archive as a source in each way."""
    dicom = {"kind": "dicom", "host": "127.0.0.1", "port": archive.archive.dicom, "ae_title": "ORTHANC"}
    sources = {
        "get": dicom,
        "move": {**dicom, "by": "move"},
        "web": {"kind": "dicomweb", "url": f"http://127.0.0.1:{archive.archive.http}/dicom-web"},
        **more,
    }
    listen = {"port": archive.port, "quiet_s": 600}
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"sources": sources, "keep": {"free_gib": 0}, "listen": listen}))
    return path


@contextmanager
def journal_of(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder / "data" / "journal.sqlite")
    try:
        yield journal
    finally:
        journal.close()


@pytest.mark.parametrize("marks", [ORTHANC])
@pytest.mark.parametrize("source", ["get", "web"])
def test_what_is_asked_for_is_found_and_no_more(archive, tmp_path, source, marks):
    site = load(site_for(tmp_path, archive))
    found = {
        question: [one.study_uid.rpartition(".")[2] for one in fetching.archive(site, source).find(asking.keys(words))]
        for question, words in {
            "patient": ["PatientID=P1"],
            "any": ["PatientID=P*", "ModalitiesInStudy=CT"],
            "none": ["PatientID=P1", "ModalitiesInStudy=MR"],
            "since": ["StudyDate=20261103-"],
            "between": ["StudyDate=20261102-20261104"],
            "accession": ["AccessionNumber=A3"],
            "words": ["StudyDescription=*chest"],
            "uid": [f"StudyInstanceUID={ROOT}.2"],
        }.items()
    }
    assert found == {
        "patient": ["1", "2"],
        "any": ["1", "3", "2"],
        "none": [],
        "since": ["3", "2"],
        "between": ["3"],
        "accession": ["3"],
        "words": ["3"],
        "uid": ["2"],
    }


@pytest.mark.parametrize("marks", [ORTHANC])
def test_studies_come_whole_each_way_and_the_same_once(archive, tmp_path, marks):
    path = site_for(tmp_path, archive)
    dry = medseg_command("fetch", path, "get", "PatientID=P1", "--dry-run")
    assert dry.code == 0 and "2 studies would be fetched" in dry.out and "20261105  P1  CT" in dry.out
    assert not (tmp_path / "data").exists()
    for source in ("get", "web"):
        done = medseg_command("fetch", path, source, "PatientID=P1")
        assert (done.code, done.out.splitlines()[-1]) == (0, "2 of 2 studies fetched, 6 objects"), done.err
    with journal_of(tmp_path) as journal:
        assert journal.arrivals.counts() == Counts(received=12, duplicates=6, corrected=0, studies=2, open=0)
        assert {job.identity.study_uid for job in journal.jobs.find()} == {f"{ROOT}.1", f"{ROOT}.2"}
        assert len(journal.jobs.find()) == 2
        entries = [entry for _, entry in journal.audit.entries()]
        assert [(one.what, one.outcome) for one in entries] == [("fetch", "2 came whole")] * 2
        assert not any("P1" in one.about for one in entries)
    assert medseg_command("fetch", path, "get", "PatientID=P9").out == "no study fits\n"


@pytest.mark.parametrize("marks", [ORTHANC])
def test_by_c_move_the_listener_takes_them(archive, tmp_path, marks):
    path = site_for(tmp_path, archive)
    running = Hospital(tmp_path, archive.archive, port=archive.port)
    failed = medseg_command("fetch", path, "move", "AccessionNumber=A3")
    assert failed.code == 1 and "`medseg listen` runs" in failed.out and "0 of 1" in failed.out
    try:
        running.start("listen")
        until(lambda: "listens at" in running.log("listen"), "it listens", within_s=60)
        done = medseg_command("fetch", path, "move", "AccessionNumber=A3")
    finally:
        running.stop()
    assert done.code == 0 and "1 of 1 studies fetched, 3 objects" in done.out
    with journal_of(tmp_path) as journal:
        assert len(journal.jobs.find()) == 1
        assert {one.sender for one in journal.arrivals.current(f"{ROOT}.3")} == {"ORTHANC"}


@pytest.mark.parametrize("marks", [ORTHANC])
def test_studies_are_downloaded_for_a_batch(archive, tmp_path, marks):
    base = f"http://127.0.0.1:{archive.archive.http}/dicom-web"
    folders = dicomweb.download(f"{base}/studies?PatientID=P1&StudyDate=20261101-20261103", tmp_path)
    assert folders == [tmp_path / f"{ROOT}.1"] and len(list(folders[0].rglob("*.dcm"))) == 3
    again = dicomweb.download(f"{base}/studies/{ROOT}.2", tmp_path)
    assert again == [tmp_path / f"{ROOT}.2"]
    for address, words in (
        (f"{base}/studies?PatientID=P9", "no study"),
        (f"{base}/studies", "no key"),
        (f"{base}?PatientID=P1", "no /studies"),
        (f"{base}x/studies?PatientID=P1", "HTTP status"),
        ("file:///etc/studies?PatientID=P1", "https://host/path"),
    ):
        with pytest.raises(Refusal, match=words):
            dicomweb.download(address, tmp_path)


@pytest.mark.parametrize("marks", [ORTHANC])
def test_an_archive_that_does_not_know_who_asks_ends_it(archive, tmp_path, marks):
    path = site_for(tmp_path, archive)
    path.write_text(path.read_text().replace("quiet_s: 600", "quiet_s: 600\n  ae_title: STRANGER"))
    with pytest.raises(Refusal, match=r"ends the association.*knows STRANGER as one"):
        fetching.archive(load(path), "get").find({"PatientID": "P1"})


def test_questions_that_nobody_means_are_refused(tmp_path):
    for words, found in ((["PatientId=1"], "perhaps PatientID"), (["PatientID=*"], "no key with"), ([], "no key with")):
        with pytest.raises(Refusal, match=found):
            asking.keys(words)
    site = tmp_path / "site.yaml"
    site.write_text("{}")
    done = medseg_command("fetch", site, "pacs", "PatientID=1")
    assert done.code == 2 and "no such source" in done.err


DATES = st.dates().map(lambda day: day.strftime("%Y%m%d"))


@given(DATES, DATES, DATES)
def test_answers_outside_of_what_was_asked_for_are_passed_over(day, first, last):
    one = {"StudyDate": day}
    assert asking.fits(one, {"StudyDate": f"{first}-{last}"}) == (first <= day <= last)
    assert asking.fits(one, {"StudyDate": f"{first}-"}) == (first <= day)
    assert asking.fits(one, {"StudyDate": f"-{last}"}) == (day <= last)
    assert asking.fits(one, {"StudyDate": day}) and asking.fits({}, {"StudyDate": first})
    assert asking.fits({"ModalitiesInStudy": "CT\\SR"}, {"ModalitiesInStudy": "SR"})
    assert not asking.fits({"PatientID": "P[1]"}, {"PatientID": "P1"})
    assert asking.fits({"PatientID": "P[1]"}, {"PatientID": "P[1*"})


def test_an_archive_that_passes_over_a_key_gives_no_study_of_another_patient():
    answers = [{"StudyInstanceUID": f"1.{n}", "PatientID": f"P{n}"} for n in (1, 2)]
    answers += [answers[0], {"StudyInstanceUID": "../1", "PatientID": "P1"}]
    assert [one.study_uid for one in asking.studies(answers, {"PatientID": "P1"})] == ["1.1"]


@contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    """A web server that always says the same."""
    with web(lambda path: (status, kind, body)) as url:
        yield url


@contextmanager
def web(says: Callable[[str], tuple[int, str, bytes]]) -> Iterator[str]:
    """A web server that answers paths: by a status, a kind of content, and this."""

    class Archive(Answers):
        def do_GET(self) -> None:
            self.answer(*says(self.path))

    with answered_by(Archive) as url:
        yield f"{url}/dicom-web"


@contextmanager
def serving(objects: list[Dataset]) -> Iterator[str]:
    """A web archive of one study, which lists three objects and sends these."""
    listed = [
        {name: {"vr": "UI", "Value": [str(image(n)[name].value)]} for name in ("0020000D", "00080018")}
        for n in (1, 2, 3)
    ]
    parts = b""
    for one in objects:
        written = io.BytesIO()
        one.save_as(written, enforce_file_format=True)
        parts += b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written.getvalue() + b"\r\n"

    def said(path: str) -> tuple[int, str, bytes]:
        if path.partition("?")[0].endswith(("/studies", "/instances")):
            return 200, JSON, json.dumps(listed).encode()
        return 200, 'multipart/related; type="application/dicom"; boundary=x', parts + b"--x--"

    with web(said) as url:
        yield url


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()
        yield port.getsockname()[1]


JSON = "application/dicom+json"


@pytest.mark.parametrize(
    ("status", "kind", "body", "words"),
    [
        (401, "text/plain", b"", "HTTP status 401.*check the token"),
        (500, "text/plain", b"", "HTTP status 500"),
        (200, JSON, b"<html>", "no DICOMweb"),
        (200, "text/html", b"<html>welcome</html>", "no DICOMweb"),
        (200, JSON, b'[{"0020000D": 7}]', "no DICOMweb"),
        (200, JSON, b"[7, 8]", "no DICOMweb"),
    ],
)
def test_web_archives_that_answer_nonsense_are_one_clear_sentence(status, kind, body, words):
    with answering(status, kind, body) as url, pytest.raises(Refusal, match=words):
        dicomweb.WebArchive("web", url).find({"PatientID": "1"})


def test_objects_that_cannot_be_read_are_refused(tmp_path):
    listed = json.dumps([{"00080018": {"vr": "UI", "Value": ["1.2.3"]}}]).encode()
    with answering(200, JSON, listed) as url, pytest.raises(Refusal, match="no DICOMweb"):
        dicomweb.WebArchive("web", url).download("1.2", tmp_path)
    assert not list(tmp_path.rglob("*.dcm")) and not list(tmp_path.rglob(f"*{dicomweb.PART}"))


def test_archives_that_do_not_answer_are_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(dicomweb, "READ_S", 0.3)
    monkeypatch.setattr(dicomweb, "TRIES", 1)
    monkeypatch.setattr(query, "WAIT_S", 0.5)
    with silent() as port:
        with pytest.raises(Refusal, match="no answer within"):
            dicomweb.WebArchive("web", f"http://127.0.0.1:{port}").find({"PatientID": "1"})
        with pytest.raises(Refusal, match="nobody who answers"):
            dimse_archive(tmp_path, port).find({"PatientID": "1"})
    closed = free_port()
    with pytest.raises(Refusal, match="no connection"):
        dicomweb.WebArchive("web", f"http://127.0.0.1:{closed}").find({"PatientID": "1"})
    with pytest.raises(Refusal, match="nobody who answers"):
        dimse_archive(tmp_path, closed).find({"PatientID": "1"})


def dimse_archive(folder: Path, port: int, **more: object) -> fetching.Archive:
    source = {"kind": "dicom", "host": "127.0.0.1", "port": port, "ae_title": "PACS", **more}
    (folder / "site.yaml").write_text(yaml.safe_dump({"sources": {"pacs": source}, "keep": {"free_gib": 0}}))
    return fetching.archive(load(folder / "site.yaml"), "pacs")


@contextmanager
def unreliable(
    kept: int,
    status: int = 0x0000,
    security: ssl.SSLContext | None = None,
    *,
    sent: Callable[[int], Dataset] = image,
    ends: int = 0x0000,
) -> Iterator[int]:
    """An archive that lists three objects and sends `kept` of them, as `sent` makes them; `status` is its answer to a
    query, `ends` its last one to a C-GET."""

    def find(event):
        if status:
            yield status, None
            return
        asked = event.identifier
        for n in (1, 2, 3) if asked.QueryRetrieveLevel == "IMAGE" else (1,):
            one = image(n)
            answer = Dataset()
            for element in asked:
                if element.keyword in one:
                    answer[element.keyword] = one[element.keyword]
            yield 0xFF00, answer
        yield 0x0000, None

    def get(event):
        yield kept + bool(ends)
        for n in range(1, kept + 1):
            yield 0xFF00, sent(n)
        if ends:
            yield ends, Dataset()

    entity = AE("PACS")
    entity.supported_contexts = [
        build_context(StudyRootQueryRetrieveInformationModelFind),
        build_context(StudyRootQueryRetrieveInformationModelGet),
    ]
    entity.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=security)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("client", "authority"), [("client", "authority"), ("client", "stranger"), ("foreign", "authority")]
)
def test_over_tls_from_an_archive_that_is_trusted_and_trusts(client, authority, tmp_path):
    certificates(tmp_path)
    security = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    security.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    security.load_verify_locations(tmp_path / "authority.pem")
    security.verify_mode = ssl.CERT_REQUIRED
    tls = {"certificate": f"{client}.pem", "key": f"{client}.key", "authority": f"{authority}.pem"}
    with unreliable(3, security=security) as port:
        dimse_archive(tmp_path, port, tls=tls)
        done = medseg_command("fetch", tmp_path / "site.yaml", "pacs", f"StudyInstanceUID={image(1).StudyInstanceUID}")
    with journal_of(tmp_path) as journal:
        trusted = (client, authority) == ("client", "authority")
        assert (done.code == 0, journal.arrivals.counts().received) == (trusted, 3 * trusted), done.out + done.err


def test_a_study_that_comes_in_part_is_no_success(tmp_path):
    uid = image(1).StudyInstanceUID
    with unreliable(2) as port:
        dimse_archive(tmp_path, port)
        done = medseg_command("fetch", tmp_path / "site.yaml", "pacs", f"StudyInstanceUID={uid}")
    assert done.code == 1 and "1 of the 3 objects" in done.out and "0 of 1 studies" in done.out
    with journal_of(tmp_path) as journal:
        assert journal.arrivals.counts().received == 2
        clock = Clock()
        listener = Closing(load(tmp_path / "site.yaml"), journal, clock=clock)  # of `medseg listen`, beside it
        for _ in range(2):
            assert listener.step() == 0
            clock.now += 1e6
        assert journal.jobs.find() == []
    with unreliable(3) as port:
        dimse_archive(tmp_path, port)
        done = medseg_command("fetch", tmp_path / "site.yaml", "pacs", f"StudyInstanceUID={uid}")
    assert done.code == 0 and f"{uid}: job 1" in done.out
    with journal_of(tmp_path) as journal:
        [job] = journal.jobs.find()
        assert len(list(Path(job.source["all"]).rglob("*.dcm"))) == 3


def test_a_study_that_an_archive_never_gives_whole_is_taken_as_it_is_when_somebody_says_so(tmp_path):
    uid = image(1).StudyInstanceUID
    with unreliable(2) as port:
        dimse_archive(tmp_path, port)
        words = ("fetch", tmp_path / "site.yaml", "pacs", f"StudyInstanceUID={uid}")
        assert medseg_command(*words).code == 1
        done = medseg_command(*words, "--partly")
    assert done.code == 0, done.out + done.err
    assert done.out.splitlines()[-2:] == [
        f"{uid}: job 1, in part: 1 of the 3 objects that it says to have did not come",
        "0 of 1 studies fetched, 1 in part, 2 objects",
    ]
    in_part(tmp_path)


def in_part(folder: Path) -> None:
    """Of a study of three objects, two became a job, and the record does not say that it came whole."""
    with journal_of(folder) as journal:
        [job] = journal.jobs.find()
        assert len(list(Path(job.source["all"]).rglob("*.dcm"))) == 2 and not journal.arrivals.open()
        assert journal.audit.entries()[-1][1].outcome == "0 came whole"


def wrong(number: int) -> Dataset:
    """The second of three objects is one that can never be kept."""
    made = image(number)
    if number == 2:
        made.StudyInstanceUID = "../../outside"
    return made


def large(number: int) -> Dataset:
    """The second of three objects is larger than is allowed."""
    made = image(number)
    if number == 2:
        made.add_new(0x7FE00010, "OW", bytes(150_000))
    return made


def huge(number: int) -> Dataset:
    """The second of three objects is far larger."""
    made = image(number)
    if number == 2:
        made.add_new(0x7FE00010, "OW", bytes(5_000_000))
    return made


@pytest.mark.parametrize(
    ("kept", "more", "why"),
    [
        (3, {"sent": wrong}, "StudyInstanceUID"),
        (3, {"sent": large}, "an object of 0.1"),
        (3, {"sent": huge}, "an object of 0.1"),
        (2, {"ends": 0xA702}, "status A702"),
    ],
)
def test_what_can_never_be_had_by_c_get_is_passed_over_when_somebody_says_so(kept, more, why, tmp_path):
    with unreliable(kept, **more) as port:
        listen(tmp_path, {"kind": "dicom", "host": "127.0.0.1", "port": port, "ae_title": "PACS"})
        passed_over(tmp_path, why)


@pytest.mark.parametrize(
    ("sent", "why"), [(wrong, "StudyInstanceUID"), (large, "an object of 0.1"), (huge, "an object of ")]
)
def test_what_can_never_be_had_by_wado_rs_is_passed_over_when_somebody_says_so(sent, why, tmp_path):
    with serving([sent(n) for n in (1, 2, 3)]) as url:
        listen(tmp_path, {"kind": "dicomweb", "url": url})
        passed_over(tmp_path, why)


def listen(folder: Path, source: dict[str, object]) -> None:
    """A site that takes only small objects."""
    about = {"sources": {"pacs": source}, "keep": {"free_gib": 0}, "listen": {"largest_mib": 0.1}}
    (folder / "site.yaml").write_text(yaml.safe_dump(about))


def passed_over(folder: Path, why: str) -> None:
    words = ("fetch", folder / "site.yaml", "pacs", f"StudyInstanceUID={image(1).StudyInstanceUID}")
    plain = medseg_command(*words)
    assert plain.code == 1 and "1 of the 3 objects" in plain.out and why in plain.out, plain.out + plain.err
    with journal_of(folder) as journal:
        assert not journal.jobs.find() and journal.arrivals.counts().received == 2
    done = medseg_command(*words, "--partly")
    assert done.code == 0 and "job 1, in part: 1 of the 3" in done.out and why in done.out, done.out + done.err
    in_part(folder)


MULTIPART = 'multipart/related; boundary="x y"'
PARTS = b"\r\n--x y\r\nContent-Type: application/dicom\r\n\r\none\r\n--x y\r\nA: b\r\n\r\n--x\r\n-two\r\n--x y--\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        (MULTIPART, PARTS, [b"one", b"--x\r\n-two"]),
        (MULTIPART, PARTS[:60], [b"one"]),  # a cut answer: what is whole counts
        ("application/dicom", b"--alone", [b"--alone"]),
    ],
)
def test_objects_of_an_answer_are_written_one_after_another(size, kind, body, found, tmp_path):
    path, seen = tmp_path / "part", []
    pieces = multipart.Pieces(kind, path, 100, lambda: seen.append(path.read_bytes()))
    for start in range(0, len(body), size):
        pieces.take(body[start : start + size])
    pieces.end()
    pieces.close()
    assert seen == found and not path.exists()


def test_of_an_object_that_is_too_large_little_is_written(tmp_path):
    path, seen = tmp_path / "part", []
    pieces = multipart.Pieces("application/dicom", path, 100, lambda: seen.append(path.stat().st_size))
    for _ in range(9):
        pieces.take(bytes(60))
    pieces.end()
    assert seen == [120]


@pytest.mark.parametrize(("kind", "body"), [("text/html", b""), ("multipart/related", b""), (MULTIPART, b"no parts")])
def test_answers_without_objects_are_refused(kind, body, tmp_path):
    with pytest.raises(ValueError):
        multipart.Pieces(kind, tmp_path / "part", 100, lambda: None).take(body)


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_multipart.multipart", None)
    with serving([image(1)]) as url, pytest.raises(Refusal, match=r"pip install 'medseg\[service\]'"):
        dicomweb.WebArchive("web", url).download(str(image(1).StudyInstanceUID), tmp_path)


def test_an_object_that_takes_long_is_waited_for_as_long_as_it_comes():
    """Pynetdicom gives all of a message as long as a word: objects of some GiB were taken for silence."""
    piece = P_DATA()
    piece.presentation_data_value_list = [[1, b"\0" + bytes(10)]]
    made = Provider(SimpleNamespace(dimse_timeout=0.01), Visit("127.0.0.1", 60.0), Parts)
    come: list[Callable[[], object]] = [lambda: made.receive_primitive(piece)] * 2 + [
        lambda: made.msg_queue.put((1, "all"))
    ]
    found = made.msg_queue.get

    def get(*words: Any) -> Any:
        if come:
            come.pop(0)()
        return found(*words)

    made.msg_queue.get = get
    assert made.get_msg(block=True) == (1, "all") and not come
    assert made.get_msg(block=True) == (None, None)


def test_who_waits_for_an_object_hears_at_once_that_the_association_has_ended():
    """Although some of it has come meanwhile: the word for the end comes once."""
    made = Provider(SimpleNamespace(dimse_timeout=60.0), Visit("127.0.0.1", 60.0), Parts)
    found, asked = made.msg_queue.get, []

    def get(*words: Any) -> Any:
        assert not asked, "it waits for what never comes"
        asked.append(words)
        piece = P_DATA()
        piece.presentation_data_value_list = [[1, b"\0" + bytes(10)]]
        made.receive_primitive(piece)
        made.msg_queue.put((None, None))  # as pynetdicom does when the connection is lost
        return found(*words)

    made.msg_queue.get = get
    assert made.get_msg(block=True) == (None, None)


@pytest.mark.parametrize("way", ["dicom", "dicomweb"])
def test_without_room_no_study_is_taken_in_part(way, tmp_path, monkeypatch):
    keep, full = Store.keep, Refusal("it", found="no room at all", needed="room", remedy="make room", code="no-room")

    def keeps(store: Store, path: Path, *words: object, **more: object) -> object:
        if store._arrivals.counts().received:
            raise full
        return keep(store, path, *words, **more)

    monkeypatch.setattr(Store, "keep", keeps)
    uid = str(image(1).StudyInstanceUID)
    with unreliable(3, sent=wrong) as port, serving([image(n) for n in (1, 2, 3)]) as url:
        source = {"host": "127.0.0.1", "port": port, "ae_title": "PACS"} if way == "dicom" else {"url": url}
        listen(tmp_path, {"kind": way, **source})
        site = load(tmp_path / "site.yaml")
        [one] = fetching.fetch(site, "pacs", {"StudyInstanceUID": uid}, [asking.Found(uid)], "me", partly=True)
    assert "no room at all" in one.problem and not one.job and not one.partly


def test_a_study_that_was_removed_is_fetched_again_and_is_a_job_again(tmp_path):
    uid = image(1).StudyInstanceUID
    with unreliable(3) as port:
        dimse_archive(tmp_path, port)
        words = ("fetch", tmp_path / "site.yaml", "pacs", f"StudyInstanceUID={uid}")
        assert f"{uid}: job 1" in medseg_command(*words).out
        assert f"{uid}: nothing new, all of it was here" in medseg_command(*words).out
        with journal_of(tmp_path) as journal:
            journal.jobs.cancel(1, "me")
            for age in (0.0, 1e9):
                retention.tidy(load(tmp_path / "site.yaml"), journal, age=age)
            assert not list((tmp_path / "data" / "objects").rglob("*.dcm"))
        assert f"{uid}: job 2" in medseg_command(*words).out
    with journal_of(tmp_path) as journal:
        again = journal.jobs.get(2)
        assert again.state == "received" and len(list(Path(again.source["all"]).rglob("*.dcm"))) == 3


def test_an_archive_that_refuses_is_quoted(tmp_path):
    with unreliable(0, 0xA700) as port, pytest.raises(Refusal, match="status A700"):
        dimse_archive(tmp_path, port).find({"PatientID": "P1"})
