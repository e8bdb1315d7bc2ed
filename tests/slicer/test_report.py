"""The report of a run: what helps is in it, and nothing of the patient or the user."""

from __future__ import annotations

import getpass
import json
import platform
import re
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from MedSegLib.models import Label, Model
from MedSegLib.report import USUAL, Scrubber, report
from MedSegLib.runs import About, Entry
from MedSegLib.words import Failure
from MedSegLib.work import FAILED, Order, Outcome, Progress

MODEL = Model(
    "Liver 3",
    "/home/anyone/models/liver",
    ("T1", "FLAIR"),
    ("MR", "MR"),
    (Label(1, "liver", (1, 2, 3), "SCT:10200004", "Liver"),),
    "voxel",
    (1.5, 1.5, 3.0),
    "CC0-1.0",
    "research",
    25_000_000,
)
VERSIONS = {"3D Slicer": "5.8.1", "MedSeg": "0.1.0", "medseg": "0.1.0"}
LETTERS = st.characters(categories=("Lu", "Ll"), max_codepoint=0x24F)
NAMES = st.text(LETTERS, min_size=4, max_size=12).map(lambda text: unicodedata.normalize("NFC", text))
STAGES = [{"name": "read", "seconds": 1.9, "peak_mib": 612.0}, {"name": "network", "seconds": 40.2, "peak_mib": 900.0}]


def texts_with(name: str, file: Path) -> list[str]:
    """How a name comes into what programs say."""
    return [
        f"{file}: found nothing; needed a scan",
        f"[1/1] {file.name}: refused in 0.3 s",
        f"case {name}, of {name.upper()} and {name.lower()}",
        f"raw {json.dumps({'case': name, 'file': str(file)})}",
        f"raw {json.dumps(str(file)).encode('ascii', 'backslashreplace').decode()}",
        f"GET https://server.example/api/{quote(name)}/{quote(file.name)}?x={quote(name)}",
        f"said {json.dumps(name)[1:-1]} and {name.encode('ascii', 'backslashreplace').decode()}",
        f"file {quote(name)} of {quote(name)}",
        f"patient {name}^{name}^^",
        f"decomposed {unicodedata.normalize('NFD', name)}",
        f"C:\\Users\\{name}\\scan.nrrd and C:\\\\Users\\\\{name}\\\\scan.nrrd",
        f'  File "{file.parent}/lib/python3.12/site-packages/medseg/engine/load.py", line 12, in read',
        f"KeyError: '{name}'",
    ]


def read(text: str) -> str:
    """As somebody reads it who knows how letters are written as others."""
    text = re.sub(r"\\u([0-9a-f]{4})|\\x([0-9a-f]{2})", lambda one: chr(int(one[1] or one[2], 16)), unquote(text))
    return unicodedata.normalize("NFC", text).casefold()


def made(title: str, order: Order, texts: list[str], **other) -> str:
    failure = Failure(next(iter(texts), "Nothing."), "Send it again.", "unreadable", "\n".join(texts))
    facts = {"stages": STAGES, "memory_plan": "24 x 20 x 18 voxels; about 367 MiB of 18.5 GiB"}
    outcome = Outcome(FAILED, facts=facts, failure=failure)
    entry = Entry(1, title, FAILED, Progress(37.0, FAILED), outcome=outcome, about=About(MODEL, order))
    for text in texts:
        entry.say(text)
    return report(entry, versions=VERSIONS, **other)


def an_order(folder: PurePosixPath, name: str, title: str) -> Order:
    images = (("T1", Path(folder / f"{name}.nii.gz")), ("FLAIR", Path(folder / f"{name} 2.nrrd")))
    return Order(title, str(folder / "models" / "liver"), images, Path(folder / "run"), labels=("liver",))


HARMLESS = f"{MODEL}{made('', an_order(PurePosixPath('/x'), 'y', ''), [])}".casefold()


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=7, max_size=7, unique_by=str.casefold))
def test_no_name_that_the_run_knows_is_in_it(names):
    told = "".join(texts_with("", Path("/a/b.nii"))).casefold()
    for name in names:
        assume(name.casefold() not in USUAL and name.casefold() not in HARMLESS)
        assume(name.casefold() not in told and len(name.casefold()) == len(name))
    user, folder, file, first, last, token, node = names
    order = an_order(PurePosixPath(f"/data/{user}/{folder} of {user}"), file, f"{last}, {first} - CT 3")
    texts = [text for name in names for text in texts_with(name, order.images[0][1])]
    text = made(order.title, order, texts, secrets=(token, f"{node} volume"))
    found = [name for name in names if name.casefold() in read(text)]
    assert not found, text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("series 1.2.840.10008.5.1.4 of 2 patients", "series <identifier> of 2 patients"),
        ("patient Doe^Jane^^Dr", "patient <name>"),
        ("born 1970-03-01 or 1.3.1970", "born <date> or <date>"),
        ("number 4711081 of 12", "number <number> of 12"),
        ("saved in /srv/A B/c.nii: found x", "saved in <path>: found x"),
        (r"saved in D:\A B\c.nii, done", "saved in <path>, done"),
        (r"saved in \\server\share\A B", "saved in <path>"),
        ("asked https://host.example:8443/api/v1/jobs?text=Doe", "asked <address>"),
        ("write to jane@example.org", "write to <address>"),
        ("found 'Jane Doe'; needed 'MR'", "found <quoted>; needed 'MR'"),
        ("read scan_of_jane.nii.gz twice", "read <file> twice"),
        (
            'File "/home/j d/env/lib/site-packages/medseg/engine/load.py", line 3',
            "File site-packages/medseg/engine/load.py, line 3",
        ),
        ("reading /data/DICOM/Doe, John/IM0001", "reading <path>"),
        ("cannot open /2023-patients/Muellerowa/scan: found 1", "cannot open <path>: found 1"),
        ("cannot open /mnt/x/Smith (Anna)/a b.txt", "cannot open <path>"),
        ("cannot open /mnt/x/Smith (Anna)", "cannot open <path>"),
        ("kept in /mnt/x/Doe, John", "kept in <path>"),
        ("kept in /mnt/x/doe, john; done", "kept in <path>; done"),
        (r"C:\Users\D'Angelo\x.bin is here", "<path>"),
        (r"kept in S:\O'Brien, which is full", "kept in <path>, which is full"),
        ("kept in '/mnt/O'Brien', which is full", "kept in '<path>', which is full"),
        ("kept in ../Muellerowa/scan", "kept in <path>"),
        ('File "/home/j d/x.py", line 3, in read', 'File "<path>", line 3, in read'),
        ("born 12 Jan 1961 or 1961/03/12 or 12. März 1961", "born <date> or <date> or <date>"),
        ("born January 12, 1961 or 12-Jan-1961 or 12.03.61", "born <date> or <date> or <date>"),
        ("PatientID A12345 and patient name: Anna", "PatientID <name> and patient name: <name>"),
        ("accession RAD-99812 and RAD-99812", "accession <name> and <identifier>"),
        ("Case Schmidtke-3: voxels: found 3; needed 2.", "Case <name>: voxels: found 3; needed 2."),
        ("server fe80::1c2d:3e4f:5a6b said no", "server <address> said no"),
        ("card 00:1B:44:11:3a:b7 of 2", "card <address> of 2"),
        ("token=abcDEF123ghi456 twice", "token=<secret> twice"),
    ],
)
def test_what_looks_private_is_taken_out_though_nobody_named_it(text, kept):
    assert Scrubber([], ["MR"]).all(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "24 x 20 x 18 voxels, 3 classes: about 367 MiB of 18.5 GiB",
        "segmenting, 41 %, 148/360 tiles, 62 of 151 MB, about 38 s left",
        "voxels of 1.5 x 1.5 x 2 mm/voxel and/or 3",
        "the service's answer wasn't what the model's recipe needs",
        "torch 2.13.0+cpu, medseg 0.1.0",
        "RuntimeError: expected 3 channels, got 2",
        "case 3 of 12 is done at 12:34:56",
        "c10::Error in aten::conv3d of torch::nn, and 1024x1024x300 voxels on x86_64",
        "a token that the service does not know",
        "in this case it is well; needed 11000 MiB",
        "148/360 tiles, 3 x 12 x 1961 voxels",
    ],
)
def test_what_helps_stays(text):
    assert Scrubber(["/home/jane/x.nii", "Jane Doe - CT 3"], ["CT"]).all(text) == text


def test_what_is_in_it():
    text = made("Doe, Jane", an_order(PurePosixPath("/home/jane"), "doe", "Doe, Jane"), ["found 2 channels of liver"])
    for part in (
        *(f"{name}: {version}" for name, version in VERSIONS.items()),
        platform.machine(),
        "model: Liver 3, voxel, 2 channels, 1.5 x 1.5 x 3 mm, weights 25.0 MB",
        "quality standard",
        "1 labels of the whole scan from 2 files",
        "device auto",
        "state: failed, 37 %",
        "read 1.9 s (612.0 MiB), network 40.2 s",
        "about 367 MiB of 18.5 GiB",
        "[unreadable]",
        "Send it again.",
        "  found 2 channels of liver",
    ):
        assert part in text, part
    assert "look through it" in text.splitlines()[0]


def test_the_user_of_this_machine_is_not_in_it(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "jdoe77")
    monkeypatch.setattr(Path, "home", lambda: Path("/nethome/jane.doe"))
    monkeypatch.setattr(platform, "node", lambda: "reading-room-4")
    order = an_order(PurePosixPath("/x"), "y", "")
    text = made("", order, ["kept by jdoe77 (jane.doe) at reading-room-4 for you"])
    assert "for you" in text and not [name for name in ("jdoe77", "jane", "doe", "reading-room") if name in text]


def test_a_log_without_end_is_its_last_lines():
    text = made("", an_order(PurePosixPath("/x"), "y", ""), [f"line {number}" for number in range(500)])
    log = text.split("log:\n")[1].splitlines()
    assert len(log) == 60 and log[-1] == "  line 499"


def test_what_the_run_itself_knew_is_not_in_it():
    """The volume was removed meanwhile, and nobody else knows its name any more."""
    entry = Entry(1, "T1: Glioma", FAILED, secrets=frozenset(["FLAIR Schwarzenberger"]))
    entry.say("FLAIR Schwarzenberger: sent as it is shown")
    assert "  <private>: sent as it is shown" in report(entry, versions=VERSIONS)


def test_a_run_of_another_kind_has_a_report_too():
    entry = Entry(1, "Create the environment", FAILED)
    text = report(entry, versions=VERSIONS, secrets=["/home/jane/env"])
    assert "state: failed" in text and "model:" not in text
