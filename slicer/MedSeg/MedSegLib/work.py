"""What travels between the rooms: an order, what is heard while it is worked on, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Union

from MedSegLib.words import Failure

DONE, FAILED, CANCELLED = "done", "failed", "cancelled"


@dataclass(frozen=True)
class Order:
    """One case for one model.

    Attributes:
        title: of the run in the list, for the user's eyes; it may hold a patient's name and never leaves Slicer.
        model: what the backend asks for it by: the path of a run folder, or the name that a service gave.
        images: the file of each channel, in the model's order. With `dicom`, empty.
        folder: private to the run; results are put there, and whoever made the order removes it.
        dicom: a folder of DICOM files in place of `images`; None: none.
        outputs: formats, as `medseg predict --output` names them (`seg_nrrd`, `dicom_seg`, `entropy`, ...).
        quality: fast, standard or best.
        labels: names of those that are wanted; none: all.
        roi: a box as `medseg predict --roi` takes it: `10:120,:,30:60`, voxels of the scan as stored; empty: all.
        device: auto, cpu, cuda or mps; only for what runs here.
    """

    title: str
    model: str
    images: tuple[tuple[str, Path], ...]
    folder: Path
    dicom: Path | None = None
    outputs: tuple[str, ...] = ("seg_nrrd",)
    quality: str = "standard"
    labels: tuple[str, ...] = ()
    roi: str = ""
    device: str = "auto"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        percent: of the network's tiles; it never falls within a run, and is 100 only once the result is complete.
        stage: what is being done, in a few words.
        seconds_left: None where that is not known.
    """

    percent: float
    stage: str
    seconds_left: float | None = None


@dataclass(frozen=True)
class Line:
    """A line for the log."""

    text: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended. Nothing comes after it.

    Attributes:
        state: `DONE`, `FAILED` or `CANCELLED`.
        files: of what was asked for, by name.
        facts: of the case, as `predict.json` holds them: volumes in ml, the verdict of the quality control, ...
        failure: why, where it failed.
    """

    state: str
    files: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


Event = Union[Progress, Line, Outcome]


class Run(Protocol):
    """Work that goes on in the background. Both calls come back at once: they are made from Qt's event loop."""

    def poll(self) -> list[Event]:
        """What happened since the last call, in order; the last event of all is an `Outcome`, which comes once."""
        ...

    def cancel(self) -> None:
        """Ask it to end; whatever of it ran on this machine is gone within two seconds, and `poll` gives the outcome.
        No harm if it has ended."""
        ...


class Backend(Protocol):
    """Where orders are worked on: `local.Local` or `remote.Remote`."""

    def start(self, order: Order) -> Run:
        """Begin. What goes wrong, at once or later, is told by the run's outcome and never raised here."""
        ...
