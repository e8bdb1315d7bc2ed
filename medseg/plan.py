"""The plan: how cases are prepared and cut, resolved from the data once, then readable, editable and pinned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from medseg.settings import Settings

Triple = tuple[float, float, float]
Sizes = tuple[int, int, int]
Modality = Literal["CT", "MR", "PT", ""]
AXIS_OF = {"L": "x", "R": "x", "P": "y", "A": "y", "I": "z", "S": "z"}


def _orientation(value: str) -> str:
    if value == "auto":
        return value
    if sorted(AXIS_OF.get(letter, "") for letter in value) != ["x", "y", "z"]:
        raise ValueError("auto, or three letters naming each of L/R, P/A and I/S once, such as RAS")
    return value


class Normalisation(Settings):
    """How one channel's intensities are scaled; always `(clip(x, lower, upper) - mean) / sd` when resolved.

    kinds: `ct` takes all four numbers from the foreground of the training set, `fixed` has mean and sd given,
    `window` clips to fixed bounds and maps them to 0..1, `zscore` takes mean and sd of each scan, `zscore_nonzero`
    those of its voxels other than 0 and leaves 0 at 0, `percentile` clips each scan to its 0.5 and 99.5 percentiles
    and maps them to 0..1, `suv` divides PET uptake by a fixed number, `none` leaves the values.
    """

    kind: Literal["ct", "window", "fixed", "zscore", "zscore_nonzero", "percentile", "suv", "none"] = "zscore"
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    sd: float | None = None


class PrepareSettings(Settings):
    """What a recipe may say about preparation; 'auto' is filled from the fingerprint of the training data."""

    spacing_mm: Literal["auto", "native"] | Triple = "auto"
    """Voxel size to resample to. auto: the median, or the 10th percentile on a strongly anisotropic axis."""
    size: Sizes | None = None
    """Voxels (i, j, k) that every image is resampled to, whatever its spacing: for photographs and classifiers. 0: as
    spacing_mm has it along this axis."""
    antialias: bool = False
    """Smooth before images are made smaller (Gaussian, sd half of the factor less 1/2), as suits photographs."""
    centres: tuple[str, ...] = ()
    """Names of the centres that the network is told apart, each a further input channel; none: it is not told."""
    steps: tuple[Literal["fundus_enhance"], ...] = ()
    """What is done to the image before anything else. fundus_enhance: even illumination of retinal photographs."""
    patch: Literal["auto"] | Sizes = "auto"
    """Voxels (i, j, k) that the network sees at once. auto, for classifiers: the whole image or slice."""
    batch: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Patches a step."""
    memory_gib: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    """Memory that a training step may take. auto: three quarters of a GPU's, or half of a machine's or container's."""
    normalisation: Literal["auto"] | tuple[Normalisation, ...] = "auto"
    """One per channel. auto: by modality (CT, MR, PET)."""
    modalities: tuple[Modality, ...] = ()
    """One per channel where the files do not say (NIfTI does not): CT, MR, or PT for PET; empty: as the files say."""
    crop: Literal["auto", "none", "nonzero", "field"] = "auto"
    """nonzero: cut away the margin where every channel is 0 (skull-stripped MR). auto: when that saves a quarter.
    field: the bright disc of a retinal photograph; classifiers see it padded to a square."""
    orientation: Annotated[str, AfterValidator(_orientation)] = "auto"
    """Axis order and direction that the network sees, as three letters; results always come back in the scan's own.
    auto: RAS for scans, and LPS for photographs, whose columns and rows then run as in the picture."""
    order: Literal[0, 1, 3] = 3
    """Spline order for images; labels are always resampled linearly per class."""
    channels_on_other_grids: Literal["refuse", "resample", "register"] = "refuse"
    """Channels of one case on different grids: refuse, resample to the first, or register rigidly to the first."""
    unknown_labels: Literal["refuse", "background"] = "refuse"
    """Numbers in label maps that the label table does not name: an error, or background as well."""
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Processes that prepare cases; 0 or 1: this one. auto: one for each core."""


class StepMemory(Settings):
    """What a training step takes, as it was found when the plan was made."""

    gib: float
    limit_gib: float
    """What it was allowed to take."""
    how: Literal["measured", "foretold", "estimated"]
    """By a step of the plan; by smaller ones; or by what the network keeps, without a step."""
    device: str


class Plan(Settings):
    """Resolved settings: all that decides the prepared arrays, which key the cache, and the patches; and what was
    settled about the network once it was trained."""

    orientation: str
    spacing_mm: Triple | Literal["native"]
    """Voxel size along the axes of `orientation`; native: each scan keeps its own."""
    size: Sizes | None = None
    antialias: bool = False
    steps: tuple[Literal["fundus_enhance"], ...] = ()
    patch: Sizes
    batch: int
    context: int = 0
    """Slices along k that the network sees on each side of a patch of one slice."""
    normalisation: tuple[Normalisation, ...]
    crop: Literal["none", "nonzero", "field"]
    order: Literal[0, 1, 3]
    channels: tuple[str, ...]
    modalities: tuple[Modality, ...] = ()
    """One per channel: what scans must be where their files say it. Empty, or all of it: not known, and not checked."""
    unit: Literal["mm", "px"] | None = None
    """What the training images were measured in; px: photographs. None: not known, and not checked."""
    centres: tuple[str, ...] = ()
    """Further input channels behind those of the image: 1 all over for the case's own centre, 0 for the others."""
    channels_on_other_grids: Literal["refuse", "resample", "register"] = "refuse"
    inference_precision: Literal["32", "bf16"] | None = None
    """Number format that `predict.precision: auto` takes, proven by precision.json; None: not settled, so 32."""
    step_memory: StepMemory | None = None
    """None: not known."""

    @property
    def in_channels(self) -> int:
        """Channels that the network sees."""
        return len(self.channels) + len(self.centres)

    def inputs(self) -> dict[str, str]:
        """For people: what the network expects."""
        return {
            "channels": self.channels_text(),
            "spacing": self.spacing_text(),
            "orientation": self.orientation,
            "normalisation": self.normalisation_text(),
        }

    def channels_text(self) -> str:
        """For people: "T1 (MR), pet (PT), x", where the modality is known and not the name itself."""
        known = dict(zip(self.channels, self.modalities, strict=False))
        shown = (name if known.get(name, "") in ("", name) else f"{name} ({known[name]})" for name in self.channels)
        return ", ".join(shown)

    def spacing_text(self) -> str:
        """For people: "1.5 x 1.5 x 3 mm" (px for photographs), or that each scan keeps its own."""
        if self.spacing_mm == "native":
            return "that of each scan"
        return " x ".join(f"{side:g}" for side in self.spacing_mm) + f" {self.unit or 'mm'}"

    def normalisation_text(self) -> str:
        """For people: how each channel is normalised."""
        return "; ".join(
            f"{channel}: {how.kind}" for channel, how in zip(self.channels, self.normalisation, strict=True)
        )
