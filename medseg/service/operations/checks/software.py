"""Versions, what extras bring, environment variables, and decoders of every compressed transfer syntax."""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from medseg.service.operations.checks.finding import Finding

EXTRAS = {
    "service": ("pynetdicom", "dicomweb_client", "fastapi", "uvicorn", "prometheus_client", "pg8000"),
    "cluster": ("ray",),
}
RAY_SILENT = ("RAY_USAGE_STATS_ENABLED", "0")
"""Ray reports how it is used unless this variable has this value."""
RAMP = """
/9j/4AAQSkZJRgABAQAAAQABAAD/wwALCAAIAAgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAgUI/9oACAEBAAEAAM/pJJKgkkkqCSSSoJJJKgkkkqCSSSoJ
JJKgkkkv/9k=
"""
PROCESS_14 = """
/9j/4AAQSkZJRgABAQAAAQABAAD/wwALCAAIAAgBAREA/8QAFwABAQEBAAAAAAAAAAAAAAAABAIFCP/aAAgBAQAGAADn+qqqqtBCEIQhGghCEIQjQQhCEIRo
IQhCEI0EIQhCEaCEIQhCNBCEIQhH///Z
"""
LOSSY = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIUFRT/
wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACP/EABkQAAEFAAAAAAAAAAAAAAAAAAAFCCQxov/aAAgBAQAAPwApJrbai5P//9k=
"""
HIGH_THROUGHPUT = """
/0//UQApQAAAAAAKAAAADAAAAAAAAAAAAAAACgAAAAwAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI
/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAGwAAf+TwAAmD/YFB3QAAMAAEsAAEwDyAId0ABD0A4d0AMAAEcAAEwABEwCnpwBCNADAABHAABVA
E+MARCUqUcBSgf62AMAAKmAAFcBMMvna/X5LdgBWWrFixcr0EEZCAey4AP/Z
"""


def versions() -> Iterator[Finding]:
    """Of Python, medseg and what it computes with."""
    import torch

    import medseg

    parts = [f"medseg {medseg.__version__}", f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    parts += [f"{name} {importlib.metadata.version(name)}" for name in ("monai", "pydicom", "SQLAlchemy")]
    yield Finding("versions", "ok", ", ".join(parts))


def extras() -> Iterator[Finding]:
    """Which are installed whole."""
    for extra, modules in EXTRAS.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        if not absent:
            yield Finding(f"extra {extra}", "ok", "installed")
        else:
            remedy = f"pip install 'medseg[{extra}]', if it is to be used"
            yield Finding(f"extra {extra}", "look", f"not installed: {', '.join(absent)}", remedy)


def environment(variables: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Whether a package that is installed would tell its makers of its use."""
    name, value = RAY_SILENT
    if importlib.util.find_spec("ray") and variables.get(name) != value:
        remedy = f"export {name}={value} wherever `ray start` is called; medseg does so for what it starts itself"
        yield Finding("telemetry", "look", "Ray reports its use to its makers unless it is told not to", remedy)
    else:
        yield Finding("telemetry", "ok", "no package reports its use")


def codecs() -> Iterator[Finding]:
    """A small frame of each compressed transfer syntax, decoded and compared."""
    from pydicom import uid

    from medseg.dicom import codec

    broken = {}
    for syntax in codec.COMPRESSED:
        try:
            difference = _difference(str(syntax))
        except Exception as error:  # whatever a decoder raises that is not there or does not fit
            broken[uid.UID(syntax).name] = f"{type(error).__name__}: {error}"
            continue
        if difference > 2:
            broken[uid.UID(syntax).name] = f"pixels off by up to {difference}"
    count = len(codec.COMPRESSED)
    if broken:
        said = "; ".join(f"{name} ({why})" for name, why in broken.items())
        yield Finding("codecs", "bad", f"not decoded: {said}", "install medseg again, with all it requires")
    else:
        yield Finding("codecs", "ok", f"all {count} compressed transfer syntaxes were decoded")


def _difference(syntax: str) -> int:
    """How far a decoded frame is from what was put in."""
    import numpy as np
    from pydicom import uid

    from medseg.dicom import codec

    if syntax in codec.HTJ2K:
        expected = np.add.outer(np.arange(12) * 300, np.arange(10) * 7)
        frame = codec.Frame(syntax, 12, 10, 16, 16, 15, False)
        code = base64.b64decode(HIGH_THROUGHPUT)
    elif syntax in codec.JPEG:
        expected = np.add.outer(np.arange(8) * 16, np.arange(8) * 2)
        frame = codec.Frame(syntax, 8, 8, 8, 8, 7, False)
        kinds = {uid.JPEGLosslessSV1: RAMP, uid.JPEGLossless: PROCESS_14}
        code = base64.b64decode(kinds.get(uid.UID(syntax), LOSSY))
        if syntax == uid.JPEGExtended12Bit:
            code = code.replace(b"\xff\xc0", b"\xff\xc1", 1)  # the same frame under its own marker
    else:
        expected = np.add.outer(np.arange(64) * 2, np.arange(64))
        frame = codec.Frame(syntax, 64, 64, 8, 8, 7, False)
        code = _encoded(syntax, expected.astype(np.uint8))
    return int(np.abs(codec.decode(code, frame).astype(int) - expected).max())


def _encoded(syntax: str, pixels: object) -> bytes:
    """By the encoders that come with the decoders."""
    from pydicom.pixels import get_encoder

    lossy: dict[str, Any] = {"1.2.840.10008.1.2.4.81": {"jls_error": 1}, "1.2.840.10008.1.2.4.91": {"j2k_cr": [2]}}
    return get_encoder(syntax).encode(
        pixels,
        rows=64,
        columns=64,
        number_of_frames=1,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        **lossy.get(syntax, {}),
    )
