"""What tells frames of one place apart: time, echo, diffusion weighting, cardiac phase, kernel, ..."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableSequence
from dataclasses import dataclass
from typing import Any

Value = str | float


@dataclass(frozen=True)
class Mark:
    """One attribute by which volumes of one series differ.

    Attributes:
        name: key in `Frame.marks`.
        text: names one volume, of {n} (its rank among the values, from 1), {value} and {clock} (a time as people read
            it).
        own: attributes of a single-frame object; the first that is there counts. A private one is a tag.
        grouped: path of the attribute in the functional groups of an enhanced object, in the same way.
        strict: frames that differ in it belong to different volumes, even if they lie at different places.
        ranked: a moment. Frames at one place are told apart by its order, whatever the moments themselves are, because
            each slice has its own.
        beside: name of a mark without which this one says too little; if that differs too, they are used together.
    """

    name: str
    text: str
    own: tuple[str | int, ...] = ()
    grouped: tuple[str, ...] = ()
    strict: bool = False
    ranked: bool = False
    beside: str = ""


SIEMENS_B, GE_B = 0x0019100C, 0x00431039
CREATORS = {SIEMENS_B: (0x00190010, "SIEMENS MR HEADER"), GE_B: (0x00430010, "GEMS_PARM_01")}
"""Private tags, with the tag and the text that must say whose they are."""
GE_OFFSET = 1_000_000_000
"""Some GE scanners add this to the b-value."""

MARKS = (
    Mark("stack", "stack {value}", grouped=("FrameContentSequence.StackID",), strict=True),
    Mark(
        "time point",
        "time point {value}",
        own=("TemporalPositionIdentifier", "TemporalPositionIndex"),
        grouped=("FrameContentSequence.TemporalPositionIndex",),
    ),
    Mark("echo", "echo {n}, {value} ms", own=("EchoTime",), grouped=("MREchoSequence.EffectiveEchoTime",), strict=True),
    Mark("echo number", "echo {value}", own=("EchoNumbers",)),
    Mark(
        "b-value",
        "b = {value}",
        own=("DiffusionBValue", SIEMENS_B, GE_B),
        grouped=("MRDiffusionSequence.DiffusionBValue",),
        strict=True,
    ),
    Mark(
        "direction",
        "direction {n}",
        own=("DiffusionGradientOrientation",),
        grouped=("MRDiffusionSequence.DiffusionGradientDirectionSequence.DiffusionGradientOrientation",),
        beside="b-value",
    ),
    Mark(
        "cardiac phase",
        "cardiac phase {value} %",
        own=("NominalPercentageOfCardiacPhase",),
        grouped=("CardiacSynchronizationSequence.NominalPercentageOfCardiacPhase",),
    ),
    Mark(
        "trigger",
        "phase {n}, {value} ms",
        own=("TriggerTime",),
        grouped=("CardiacSynchronizationSequence.NominalCardiacTriggerDelayTime",),
        ranked=True,
    ),
    Mark(
        "type",
        "{value}",
        own=("ImageType",),
        grouped=(
            "MRImageFrameTypeSequence.FrameType",
            "CTImageFrameTypeSequence.FrameType",
            "PETFrameTypeSequence.FrameType",
        ),
    ),
    Mark(
        "component",
        "{value}",
        own=("ComplexImageComponent",),
        grouped=("MRImageFrameTypeSequence.ComplexImageComponent",),
        strict=True,
    ),
    Mark(
        "kernel",
        "kernel {value}",
        own=("ConvolutionKernel",),
        grouped=("CTReconstructionSequence.ConvolutionKernel",),
        strict=True,
    ),
    Mark("energy", "{value} kV", own=("KVP",), grouped=("CTXRayDetailsSequence.KVP",), strict=True),
    Mark("inversion", "inversion time {value} ms", own=("InversionTime",)),
    Mark("flip angle", "flip angle {value} degrees", own=("FlipAngle",)),
    Mark("acquisition", "acquisition {value}", own=("AcquisitionNumber",)),
    Mark("frame time", "time point {n}, {value} ms", own=("FrameReferenceTime",), ranked=True),
    Mark(
        "acquired",
        "phase {n}, acquired at {clock}",
        own=("AcquisitionDateTime", "AcquisitionTime"),
        grouped=("FrameContentSequence.FrameAcquisitionDateTime",),
        ranked=True,
    ),
    Mark("made", "part {n}, made at {clock}", own=("ContentTime",)),
)
"""In the order in which they are tried."""
NUMBER, TIME, DATE = "InstanceNumber", "AcquisitionTime", "AcquisitionDate"
BY_NAME = {mark.name: mark for mark in MARKS}
TAGS: list[str | int] = [
    NUMBER,
    DATE,
    *(attribute for mark in MARKS for attribute in mark.own),
    *(tag for tag, _ in CREATORS.values()),
]


def of_file(dataset: Any) -> dict[str, Value]:
    """Marks of a single-frame object, and its instance number under `NUMBER`."""
    found = {}
    for mark in MARKS:
        for attribute in mark.own:
            given = _private(dataset, attribute) if isinstance(attribute, int) else dataset.get(attribute)
            value = _value(_dated(dataset, given) if attribute == TIME else given)
            if value is not None:
                found[mark.name] = value
                break
    number = _value(dataset.get(NUMBER))
    if number is not None:
        found[NUMBER] = number
    return found


def _dated(dataset: Any, time: Any) -> Any:
    """A time of day with its date before it: a scan may go on past midnight."""
    date = dataset.get(DATE)
    return f"{date}{time}" if date and time else time


def of_groups(own: Any, shared: Any) -> dict[str, Value]:
    """Marks of a frame of an enhanced object, from its functional groups."""
    found = {}
    for mark in MARKS:
        for path in mark.grouped:
            value = next(
                (value for groups in (own, shared) if (value := _value(_walk(groups, path))) is not None), None
            )
            if value is not None:
                found[mark.name] = value
                break
    return found


def _walk(groups: Any, path: str) -> Any:
    here = groups
    *sequences, name = path.split(".")
    for sequence in sequences:
        items = here.get(sequence) if here is not None else None
        here = items[0] if items else None
    return None if here is None else here.get(name)


def _private(dataset: Any, tag: int) -> Any:
    creator, text = CREATORS[tag]
    if tag not in dataset or creator not in dataset or str(dataset[creator].value).strip() != text:
        return None
    value = dataset[tag].value
    if tag == GE_B:
        several = isinstance(value, MutableSequence) and len(value) > 0
        value = _value(value[0] if several else value)
        value = value % GE_OFFSET if isinstance(value, float) else value
    return None if isinstance(value, bytes) else value


def _value(given: Any) -> Value | None:
    """A number where it is one, else text; several values are one text. None for nothing, NaN and infinity."""
    if given is None:
        return None
    if not isinstance(given, str | bytes) and hasattr(given, "__len__"):
        return "\\".join(str(part).strip() for part in given) or None
    try:
        number = float(given)
    except (TypeError, ValueError):
        return str(given).strip() or None
    return float(f"{number:.6g}") if abs(number) < 1e5 else number if math.isfinite(number) else None


def name(mark: Mark, rank: int, value: Value, others: set[Value]) -> str:
    """One volume in words.

    Args:
        mark: what tells the volumes apart.
        rank: of this one, from 1.
        value: of this one, of its first frame if the frames differ.
        others: the values of all volumes.
    """
    shown = f"{value:g}" if isinstance(value, float) else value
    if mark.name == "type" and len(others) > 1:  # only what this one does not share with all others
        common = set.intersection(*(set(str(other).split("\\")) for other in others))
        shown = " ".join(word for word in shown.split("\\") if word not in common) or shown
    return mark.text.format(n=rank, value=shown.replace("\\", " "), clock=_clock(value))


def _clock(value: Value) -> str:
    """hh:mm:ss of DICOM's TM or DT."""
    digits = f"{value:.0f}".zfill(6) if isinstance(value, float) else value.split(".")[0]
    digits = digits[8:14] if len(digits) >= 12 else digits[:6]
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def differing(frames: Iterator[Mapping[str, Value]]) -> tuple[Mark, ...]:
    """Marks that have more than one value among frames (to be without one is a value), in the order of the table."""
    seen: dict[str, set[Value | None]] = {mark.name: set() for mark in MARKS}
    for marks in frames:
        for mark_name, values in seen.items():
            values.add(marks.get(mark_name))
    return tuple(mark for mark in MARKS if len(seen[mark.name]) > 1)
