"""Plain U-Net in 3-D: strided convolutions down, transposed ones up; layout and names of nnU-Net v2's PlainConvUNet.

Every convolution is followed by instance normalisation and LeakyReLU. Sources: Ronneberger et al. 2015, "U-Net",
arXiv:1505.04597; Isensee et al. 2021, "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 18, 203-211.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medseg.layers import LAYOUTS, SLOPE, InstanceNorm, channels_innermost, half, initialise_he, recomputed
from medseg.settings import Settings

HEADS = ("decoder.seg_layers.",)
STEM = ("encoder.stages.0.0.convs.0.conv.weight",)
COPIES = (".all_modules.", "decoder.encoder.")
"""In names of published entries that hold the same tensor as another: the original registers some modules twice."""

Count = Annotated[int, Field(ge=1)]
Triple = tuple[Count, Count, Count]


class Options(Settings):
    features: Annotated[tuple[Count, ...], Field(min_length=2)] = (32, 64, 128, 256, 320)
    """Width of each stage, finest first."""
    strides: tuple[Triple, ...] = ()
    """Downsampling (i, j, k) on entering each stage after the first; empty: 2 everywhere."""
    kernels: tuple[Triple, ...] = ()
    """Size of each stage's convolutions, odd, finest first; empty: 3 everywhere."""
    convs: Count | tuple[Count, ...] = 2
    """Convolutions of each encoder stage: one number for all, or one for each."""
    decoder_convs: Count | tuple[Count, ...] = 2
    """Convolutions of each decoder stage, coarsest first: one number for all, or one for each."""
    deep_supervision: bool = True
    """Return the logits of every decoder level, finest first."""
    checkpointing: bool = False
    """Recompute each stage in the backward pass: less memory, about a third more time."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stages = len(self.features)
        for name, needed in (
            ("strides", stages - 1),
            ("kernels", stages),
            ("convs", stages),
            ("decoder_convs", stages - 1),
        ):
            given = getattr(self, name)
            if isinstance(given, tuple) and given and len(given) != needed:
                raise ValueError(f"{name}: {stages} stages need {needed} entries, not {len(given)}")
        if any(size % 2 == 0 for kernel in self.kernels for size in kernel):
            raise ValueError(f"kernels: {self.kernels} must be odd")
        return self

    def resolved_strides(self) -> tuple[Triple, ...]:
        return self.strides or ((2, 2, 2),) * (len(self.features) - 1)


def divisor(options: Options) -> tuple[int, int, int]:
    sides = [1, 1, 1]
    for stride in options.resolved_strides():
        sides = [side * factor for side, factor in zip(sides, stride, strict=True)]
    return sides[0], sides[1], sides[2]


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Freshly initialised network (He normal)."""
    return UNet(options, in_channels, out_channels).apply(initialise_he)


def adapt(state: Mapping[str, Tensor], options: Options) -> dict[str, Tensor]:
    """Weights as nnU-Net v2 stores them, each once."""
    return {name: tensor for name, tensor in state.items() if not any(part in name for part in COPIES)}


class UNet(nn.Module):
    """The decoder's lists run from coarse to fine."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        widths, strides = options.features, options.resolved_strides()
        kernels = options.kernels or ((3, 3, 3),) * len(widths)
        counts = _each(options.convs, len(widths))
        stages = nn.ModuleList()
        for cin, cout, stride, kernel, count in zip(
            (in_channels, *widths[:-1]), widths, ((1, 1, 1), *strides), kernels, counts, strict=True
        ):
            stages.append(nn.Sequential(_Stage(cin, cout, kernel, count, stride)))
        self.encoder = nn.ModuleDict({"stages": stages})
        levels = list(zip(widths[1:], widths[:-1], strides, kernels[:-1], strict=True))[::-1]
        counts = _each(options.decoder_convs, len(levels))
        self.decoder = nn.ModuleDict(
            {
                "transpconvs": nn.ModuleList(
                    nn.ConvTranspose3d(coarse, fine, stride, stride) for coarse, fine, stride, _ in levels
                ),
                "stages": nn.ModuleList(
                    _Stage(2 * fine, fine, kernel, count)
                    for (_, fine, _, kernel), count in zip(levels, counts, strict=True)
                ),
                "seg_layers": nn.ModuleList(nn.Conv3d(fine, out_channels, 1) for _, fine, _, _ in levels),
            }
        )
        self.deep_supervision, self.checkpointing = options.deep_supervision, options.checkpointing

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        held = [x]  # each map by this list alone: it is gone as soon as the layer that reads it is done
        del x
        *above, bottom = (next(stage.children()) for stage in self.encoder["stages"].children())
        skips: list[Tensor] = []
        for stage in above:
            self._through(stage, held)
            skips.append(held[0] if torch.is_grad_enabled() else _with_room(held[0]))
        self._through(bottom, held)
        outputs: list[Tensor] = []
        for up, stage, head in self._levels():
            held.append(up(held.pop()))
            held.append(_joined(held.pop(), skips.pop()))
            self._through(stage, held)
            if self.deep_supervision or not skips:
                outputs.append(head(held[0]))
        return tuple(reversed(outputs)) if self.deep_supervision else outputs[0]

    def _through(self, stage: Any, held: list[Tensor]) -> None:
        if self.checkpointing and self.training:
            held.append(recomputed(partial(_answer, stage), held.pop(), when=True))
        else:
            _through(stage, held)

    def _levels(self) -> Iterator[tuple[nn.Module, Any, nn.Module]]:
        """Upsampling, convolutions and head of each decoder level."""
        parts = (self.decoder[name].children() for name in ("transpconvs", "stages", "seg_layers"))
        return zip(*parts, strict=True)


def _through(stage: Any, held: list[Tensor]) -> None:
    """Put the answer of a stage in the place of the map that it is given."""
    for unit in stage.convs:
        for layer in (unit.conv, unit.norm, unit.act):
            held.append(layer(held.pop()))


def _answer(stage: Any, x: Tensor) -> Tensor:
    held = [x]
    del x
    _through(stage, held)
    return held.pop()


def _with_room(skip: Tensor) -> Tensor:
    """A map in the second half of one with twice the channels, where what comes from below will lie in the first."""
    batch, channels, *sides = skip.shape
    layout = LAYOUTS[skip.ndim] if channels_innermost(skip) else torch.contiguous_format
    both = torch.empty((batch, 2 * channels, *sides), dtype=skip.dtype, device=skip.device, memory_format=layout)
    both[:, channels:] = skip
    return both


def _joined(below: Tensor, skip: Tensor) -> Tensor:
    """What comes from below and the skip connection, as the channels of one map; without gradients there is room for
    both in the latter, for a third map of that size would be the most memory that is ever taken."""
    if skip.shape[1] == below.shape[1]:
        return torch.cat([below, skip], dim=1)
    skip[:, : below.shape[1]] = below
    return skip


class _Stage(nn.Module):
    """Convolutions one after another, the first of which may shrink the map; `_through` runs them."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Triple, count: int, stride: Triple = (1, 1, 1)):
        super().__init__()
        first = _Unit(in_channels, out_channels, kernel, stride)
        self.convs = nn.Sequential(first, *(_Unit(out_channels, out_channels, kernel) for _ in range(count - 1)))


class _Unit(nn.Module):
    """conv - norm - LeakyReLU, which `_through` runs."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Triple, stride: Triple = (1, 1, 1)):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, half(kernel))
        self.norm = InstanceNorm(out_channels)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)


def _each(count: int | tuple[int, ...], stages: int) -> tuple[int, ...]:
    return count if isinstance(count, tuple) else (count,) * stages
