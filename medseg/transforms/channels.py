"""Several images of one case (T1, T2, PET, CT, ...) as the channels of one volume, on the grid of the first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.geometry import LPS_FROM_RAS, axis_map, orientation, same_grid
from medseg.refusal import Refusal
from medseg.volume import Volume

if TYPE_CHECKING:
    import SimpleITK

SEED = 20240229
"""Of the voxels that registration samples, so that the same images always give the same transform."""


def combine(volumes: Sequence[Volume], *, policy: Literal["refuse", "resample", "register"]) -> Volume:
    """Stack the channels of all volumes on the grid of the first.

    A volume that lies on the same grid in another axis order is turned exactly, whatever the policy.

    Args:
        volumes: at least one; each may have several channels.
        policy: what to do with a volume on another grid. refuse; resample: read it linearly at the first one's voxels,
            trusting the scanner's coordinates; register: move it rigidly onto the first one (mutual information)
            before. Beyond its field of view a volume continues with its smallest value.

    Returns:
        (C, I, J, K) with affine, source and unit of the first volume; a single volume is returned as it is.

    Raises:
        Refusal: policy is refuse and two grids differ; the message names both files and the distance in mm.
    """
    first, *others = volumes
    if not others:
        return first
    arrays = [first.array]
    for volume in others:
        turned = reoriented(volume, first)
        if not same_place(turned, first):
            if policy == "refuse":
                raise Refusal(
                    volume.source.path,
                    found=f"a grid {difference(turned, first)} from that of {first.source.path}",
                    needed="all channels of a case on one grid",
                    remedy="set prepare.channels_on_other_grids to 'resample' (if the patient lay still) or 'register'",
                    code="grids-differ",
                )
            turned = _onto(turned, first, register=policy == "register")
        arrays.append(turned.array)
    channels = tuple(itertools.chain.from_iterable(volume.channels for volume in volumes))
    stacked = np.concatenate(arrays)
    return first.with_array(stacked, channels if len(channels) == len(stacked) else ())


def reoriented(volume: Volume, like: Volume) -> Volume:
    """The same voxels with axes permuted and flipped to the orientation of `like`; a view, nothing is resampled."""
    axes = axis_map(volume.affine, orientation(like.affine))
    return Volume(
        axes.apply(volume.array), axes.affine(volume.affine, volume.shape), volume.source, volume.unit, volume.channels
    )


def same_place(volume: Volume, other: Volume) -> bool:
    """Whether two grids have one shape and place their voxels alike, to a tenth of a voxel and of a millimetre.

    Headers store rounded numbers, which moves corners by some thousandths of a millimetre; a wrong grid is off by more.
    """
    tolerance_mm = 0.1 * min(1.0, float(other.spacing_mm.min()))
    return same_grid(volume.affine, volume.shape, other.affine, other.shape, tolerance_mm=tolerance_mm)


def distance_mm(volume: Volume, other: Volume) -> float:
    """Largest distance between like corner voxels of two volumes in the same orientation."""
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    places = [
        (one.affine[:3, :3] @ (corners * (np.array(one.shape) - 1)).T).T + one.affine[:3, 3] for one in (volume, other)
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=1).max())


def difference(volume: Volume, other: Volume) -> str:
    """In words, for a refusal: "of 208 x 256 x 26 voxels instead of 256 x 224 x 26, up to 31.4 mm away"."""
    shapes = [" x ".join(map(str, one.shape)) for one in (volume, other)]
    sizes = f"of {shapes[0]} voxels instead of {shapes[1]}, " if shapes[0] != shapes[1] else ""
    return f"{sizes}up to {distance_mm(volume, other):.3g} {other.unit} away"


def _onto(volume: Volume, reference: Volume, *, register: bool) -> Volume:
    """Every channel read linearly at the voxels of `reference`, after rigid registration of the first if asked."""
    import SimpleITK as sitk

    fixed = _to_sitk(reference.array[0], reference.affine)
    moving = [_to_sitk(channel, volume.affine) for channel in volume.array]
    transform = _register(fixed, moving[0]) if register else sitk.Transform(3, sitk.sitkIdentity)
    channels = []
    for image, channel in zip(moving, volume.array, strict=True):
        placed = sitk.Resample(image, fixed, transform, sitk.sitkLinear, float(channel.min()), sitk.sitkFloat32)
        channels.append(sitk.GetArrayFromImage(placed).T)
    return Volume(np.stack(channels), reference.affine, volume.source, reference.unit, volume.channels)


def _to_sitk(array: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    """(I, J, K) in RAS+ mm -> SimpleITK image, which counts in LPS."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T, np.float32))
    lps = LPS_FROM_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _register(fixed: SimpleITK.Image, moving: SimpleITK.Image) -> SimpleITK.Transform:
    """Rigid transform from points of `fixed` to points of `moving`: Mattes mutual information, coarse to fine.

    It starts from the scanner's coordinates, or from the fields of view's centres where these match better. One
    thread and a fixed seed, because sums over threads would differ in their last digits from run to run.
    """
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=200, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in fixed.GetSize()])
    as_scanned = sitk.Euler3DTransform()
    as_scanned.SetCenter(centre)
    centred = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )

    def mismatch(start: SimpleITK.Transform) -> float:
        method.SetInitialTransform(start, inPlace=False)
        try:
            return float(method.MetricEvaluate(fixed, moving))
        except RuntimeError:  # ITK's answer to fields of view that do not overlap
            return float("inf")

    method.SetInitialTransform(min((as_scanned, centred), key=mismatch), inPlace=False)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method.Execute(fixed, moving)
