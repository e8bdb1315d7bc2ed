"""Files that are damaged on purpose, each from its seed, and readers that are watched while they read them.

`python -m tests.fuzzing FOLDER FIRST STOP [STEP]` reads files FIRST, FIRST + STEP, ... below STOP in one process and
says of each on a line of its own what became of it. `run` starts that, watches, and starts it again after a crash.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import queue
import resource
import shutil
import subprocess
import sys
import threading
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests import dicom_frames
from tests import dicom_series as ds
from tests.tiny import ENVIRONMENT, ROOT

SECONDS, MEGABYTES = 10, 2000
"""Of processor time, and of memory, that one file may take."""
PATIENCE_S = 120
"""Without a word from the process that reads: it hangs, whatever else the machine is doing."""
JPEG_LOSSLESS = (  # 300 * row + 7 * column over 12 rows and 10 columns, by dcmtk
    "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAMAAoBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAwkQ/9oACAEBAAEAAM7u7u7vSx3d3d3elju7u7u9"
    "LHd3d3d6WO7u7u70sd3d3d3pY7u7u7vSx3d3d3elju7u7u9LHd3d3d6WO7u7u70sd3d3d3///9k="
)
BOMB_BYTES, BOMBS = 2**26, 40
"""A bomb is this many zeros, this many times; a file that was filled up has twice as many behind it."""

COMMAND = [sys.executable, "-m", "tests.fuzzing"]
"""What is watched; it is given a folder and FIRST, STOP and STEP."""

UID = "1.2.3.4"
Wrap = Callable[[bytes, np.random.Generator], bytes]


@dataclass(frozen=True)
class Base:
    """A whole file. `wrap` packs it, before or after the damage; `beside` are whole ones in its folder, which is read
    if it is a `series`."""

    content: bytes
    suffix: str = ""
    beside: tuple[bytes, ...] = ()
    series: bool = False
    wrap: Wrap | None = None


def bases() -> dict[str, Base]:
    """One of each kind. The same in every process, so that a seed says all."""
    ramp = np.add.outer(np.arange(48) * 80, np.arange(40) * 7).astype(np.uint16)
    planes = [(ramp + n).astype(np.int16) for n in range(3)]
    whole = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}

    def packed(syntax: uid.UID) -> bytes:
        dataset = ds.slice_(ds.places(3)[0], rows=48, columns=40, PixelData=ramp.tobytes(), **whole)
        dataset.compress(syntax, generate_instance_uid=False)
        return _bytes(dataset)

    lossless = ds.slice_(ds.places(3)[0], PixelData=encapsulate([base64.b64decode(JPEG_LOSSLESS)]), **whole)
    lossless.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    lossless["PixelData"].VR = "OB"
    first, *others = (_bytes(ds.slice_(place, number=n)) for n, place in enumerate(ds.places(3), start=1))
    enhanced = dicom_frames.enhanced(planes, [0, 2, 1])
    compressed = dicom_frames.enhanced(planes, [0, 2, 1])
    compressed.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    return {
        "series": Base(first, beside=tuple(others), series=True),
        "implicit": Base(_bytes(ds.slice_(ds.places(3)[0]), uid.ImplicitVRLittleEndian)),
        "deflated": Base(first, wrap=_deflate),
        "rle": Base(packed(uid.RLELossless)),
        "jpeg": Base(_bytes(lossless)),
        "jpeg-ls": Base(packed(uid.JPEGLSLossless)),
        "jpeg-2000": Base(packed(uid.JPEG2000Lossless)),
        "enhanced": Base(_bytes(enhanced)),
        "enhanced-jpeg-2000": Base(_bytes(compressed)),
        "segmentation": Base(_bytes(dicom_frames.segmentation())),
        "structures": Base(_bytes(dicom_frames.structures(f"{UID}.1")), beside=(first, *others)),
        "zip": Base(first, ".zip", wrap=_zip),
        "nifti": Base(_nifti(), ".nii"),
        "nifti-gz": Base(_nifti(), ".nii.gz", wrap=_gzip),
    }


def _bytes(dataset: Dataset, syntax: uid.UID | None = None) -> bytes:
    plain = Dataset()
    plain.update(dataset)
    plain.file_meta = dataset.file_meta
    if syntax:
        plain.file_meta.TransferSyntaxUID = syntax
    number = plain.get("InstanceNumber", 1)
    plain.SOPInstanceUID = plain.file_meta.MediaStorageSOPInstanceUID = f"{UID}.{number}"  # not a new one each time
    target = io.BytesIO()
    plain.save_as(target, enforce_file_format=True)
    return target.getvalue()


def _nifti() -> bytes:
    import nibabel as nib

    array = np.random.default_rng(1).normal(size=(6, 5, 4)).astype(np.float32)
    return nib.Nifti1Image(array, np.diag([1, 2, 3, 1])).to_bytes()


def _gzip(content: bytes, rng: np.random.Generator) -> bytes:
    packed = gzip.compress(content, mtime=0)
    return packed + gzip.compress(bytes(BOMB_BYTES), 1, mtime=0) * BOMBS if rng.random() < 0.05 else packed


def _deflate(content: bytes, rng: np.random.Generator) -> bytes:
    """The same with its attributes deflated; a file whose start is too broken for that stays as it is."""
    if len(content) < 144:
        return content
    start = 144 + int.from_bytes(content[140:144], "little")
    meta = content[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    meta = meta[:140] + (len(meta) - 144).to_bytes(4, "little") + meta[144:]
    meta = meta.replace(b"UI\x14\x001.2.840.10008.1.2.1.99", b"UI\x16\x001.2.840.10008.1.2.1.99")
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = squeeze.compress(content[start:])
    if rng.random() < 0.05:
        body += squeeze.flush(zlib.Z_FULL_FLUSH)
        zeros = squeeze.compress(bytes(BOMB_BYTES)) + squeeze.flush(zlib.Z_FULL_FLUSH)
        body += zeros * BOMBS
    return meta + body + squeeze.flush()


def _zip(content: bytes, rng: np.random.Generator) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(zipfile.ZipInfo("study/a.dcm"), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def damaged(seed: int, found: dict[str, Base]) -> tuple[str, bytes]:
    """Name of a base, and a damaged file made of it."""
    rng = np.random.default_rng(seed)
    name = list(found)[seed % len(found)]
    base = found[name]
    content = base.content
    early = base.wrap is None or rng.random() < 0.7
    if early:
        content = _damage(name, content, rng)
    if base.wrap:
        content = base.wrap(content, rng)
    return name, content if early else _scratch(content, len(content), rng)


def _damage(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.choice(["scratch", "cut", "lie", "absurd", "block", "fill"], p=[0.3, 0.1, 0.25, 0.25, 0.09, 0.01])
    if kind == "cut":
        return content[: rng.integers(0, len(content))]
    if kind == "fill":  # as downloads leave it that reserve their space and are cut
        return content[: rng.integers(0, len(content))] + bytes(2 * BOMB_BYTES)
    if kind == "block":
        start, stop = sorted(int(place) for place in rng.integers(0, len(content), size=2))
        return content[:start] + (content[start:stop] * 2 if rng.random() < 0.5 else b"") + content[stop:]
    if kind in ("lie", "absurd"):
        return _nifti_lie(content, rng) if name.startswith("nifti") else _dicom_lie(content, str(kind), rng)
    return _scratch(content, 352 if name.startswith("nifti") else len(content), rng)


def _scratch(content: bytes, header: int, rng: np.random.Generator) -> bytes:
    """One to five bits or bytes changed, mostly in the header."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 6) if changed else 0):
        place = rng.integers(0, min(header, len(changed)) if rng.random() < 0.7 else len(changed))
        changed[place] = changed[place] ^ (1 << rng.integers(0, 8)) if rng.random() < 0.4 else rng.integers(0, 256)
    return bytes(changed)


ABSURD_TEXT = ("", "nan", "inf", "-1", "0", "1e308", "1000000000", "1\\2", "abc", "9" * 16, "\\" * 40, "-0.0", "1e-300")


def _dicom_lie(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """An element's length that is not true, or a value that cannot be."""
    elements = [element for element in _elements(dcmread(io.BytesIO(content))) if element.file_tell]
    element = elements[rng.integers(0, len(elements))]
    if kind == "absurd":  # of those that say how large things are, or where
        telling = [one for one in elements if one.tag.group in (0x0018, 0x0020, 0x0028) and one.VR != "SQ"]
        element = telling[rng.integers(0, len(telling))]
    place, length = element.file_tell, _length(content, element.file_tell)
    width = 2 if content[place - 4 : place - 2].isalpha() and content[place - 8 : place - 6] != b"\0\0" else 4
    if kind == "lie":
        choices = (0, 1, 2**16 - 1, 2**32 - 1, 2**31, length + 1, length - 1, length * 2, int(rng.integers(0, 2**32)))
        claim = choices[rng.integers(0, len(choices))] % 256**width
        return content[: place - width] + claim.to_bytes(width, "little") + content[place:]
    if element.VR == "US":
        value = int(rng.choice([0, 1, 8, 255, 32768, 65535])).to_bytes(2, "little")
    else:
        value = str(rng.choice(ABSURD_TEXT)).encode()
        value += b" " * (len(value) % 2)
    size = len(value).to_bytes(width, "little")
    return content[: place - width] + size + value + content[place + length :]


def _length(content: bytes, place: int) -> int:
    short = content[place - 4 : place - 2].isalpha() and content[place - 4 : place - 2].isupper()
    return int.from_bytes(content[place - 2 : place] if short else content[place - 4 : place], "little")


def _elements(dataset: Dataset) -> Iterator[Any]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


NIFTI_FIELDS = [(40 + 2 * n, "<i2") for n in range(8)] + [
    (70, "<i2"),
    (72, "<i2"),
    (0, "<i4"),
    (252, "<i2"),
    (254, "<i2"),
]
NIFTI_FIELDS += [(76 + 4 * n, "<f4") for n in range(8)] + [(n, "<f4") for n in (108, 112, 116, 280, 300, 324, 256)]


def _nifti_lie(content: bytes, rng: np.random.Generator) -> bytes:
    place, kind = NIFTI_FIELDS[rng.integers(0, len(NIFTI_FIELDS))]
    value: float = rng.choice([0, 1, -1, 7, 32767, -32768, 512, 4])
    if kind == "<f4":
        value = rng.choice([0, -1, np.nan, np.inf, 1e38, 352, 1e9, -352, 3.5])
    raw = np.array(value).astype(kind).tobytes()
    return content[:place] + raw + content[place + len(raw) :]


def read(seed: int, folder: Path, found: dict[str, Base]) -> dict[str, Any]:
    """Make a damaged file, read it, look at its header as `medseg dicom check` does; say what became of it."""
    name, content = damaged(seed, found)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / f"x{found[name].suffix}"
    path.write_bytes(content)
    for n, other in enumerate(found[name].beside):
        (folder / f"y{n}").write_bytes(other)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory use so far
    started = time.process_time()
    outcome, words = _outcome(folder if found[name].series else path)
    high = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "seed": seed,
        "base": name,
        "outcome": outcome,
        "words": words,
        "seconds": time.process_time() - started,
        "megabytes": int(high.split()[1]) // 1024,
    }


def _outcome(path: Path) -> tuple[str, str]:
    from medseg import readers
    from medseg.dicom import archive, survey, sweep
    from medseg.dicom.settings import DicomSettings
    from medseg.refusal import Refusal

    outcome, words = "read", ""
    try:
        try:
            volume = readers.read(path)
            if not (np.isfinite(volume.affine).all() and np.isfinite(volume.array).all()):
                return "broken", "a volume with NaN"
        except Refusal as refusal:
            outcome, words = "refused", str(refusal)
            if not (refusal.found and refusal.remedy):
                return "broken", f"a refusal without words: {refusal}"
        try:
            files = list(archive.files(path)) if archive.holds_several(path) else [path]
            json.dumps(survey.facts(survey.check(sweep.look(files, workers=1), DicomSettings())))
        except Refusal:
            pass  # a zip or DICOMDIR that is refused as a whole
    except Exception:
        return "broken", traceback.format_exc()
    return outcome, words


def main(folder: Path, seeds: range) -> None:
    """The process that is watched."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))  # a mistake must not take the machine with it
    found = bases()
    for seed in seeds:
        print(json.dumps({"begins": seed}), flush=True)
        print(json.dumps(read(seed, folder, found)), flush=True)


def run(seeds: range, folder: Path) -> list[dict[str, Any]]:
    """Outcomes of all seeds, read one after the other in a process of their own."""
    outcomes: list[dict[str, Any]] = []
    while seeds:
        outcomes += _watched(seeds, folder)
        seeds = range(outcomes[-1]["seed"] + seeds.step, seeds.stop, seeds.step)
    return outcomes


def _watched(seeds: range, folder: Path) -> list[dict[str, Any]]:
    """Outcomes until all are done, or one crashes or hangs, which is then the last."""
    words = [str(word) for word in (folder, seeds.start, seeds.stop, seeds.step)]
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        env={**ENVIRONMENT, "TMPDIR": str(folder.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout

    def listen(stream: Any) -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, args=(process.stdout,), daemon=True).start()
    outcomes: list[dict[str, Any]] = []
    begun, end = seeds.start, {"outcome": "crashed"}
    try:
        while line := lines.get(timeout=PATIENCE_S):
            said = json.loads(line)
            begun = said.get("begins", begun)
            if "outcome" in said:
                outcomes.append(said)
    except queue.Empty:
        end = {"outcome": "hung"}
    finally:
        process.kill()
        code = process.wait()
    if not outcomes or outcomes[-1]["seed"] != seeds[-1]:
        outcomes.append({"seed": begun, "words": f"exit code {code}", "seconds": 0, "megabytes": 0, "base": "?", **end})
    return outcomes


def faults(outcomes: list[dict[str, Any]]) -> list[str]:
    """Those that are neither read nor refused within the limits, with what it takes to see them again."""
    return [
        f"python -m tests.fuzzing /tmp/fuzz {one['seed']} {one['seed'] + 1}  # {one['base']}: {one['outcome']}, "
        f"{one['seconds']:.1f} s, {one['megabytes']} MB\n{one['words'][-1500:]}"
        for one in outcomes
        if one["outcome"] not in ("read", "refused") or one["seconds"] > SECONDS or one["megabytes"] > MEGABYTES
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "file", range(*map(int, sys.argv[2:])))
