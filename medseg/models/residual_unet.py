"""Residual U-Net: residual encoder, light decoder; the default for CT and MR.

The layout of nnU-Net's residual encoder: strided convolutions instead of pooling, most blocks in the encoder and one
convolution per decoder level. Source: Isensee et al. 2024, "nnU-Net Revisited", arXiv:2404.09556.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medseg.layers import SLOPE, InstanceNorm, ResidualBlock, Upsample, half, initialise_he, recomputed
from medseg.settings import Settings

HEADS = ("heads.",)
STEM = ("encoder.0.0.conv1.weight", "encoder.0.0.conv3.weight")
UNSEEN = ("strides",)

Count = Annotated[int, Field(ge=1)]
Triple = tuple[Count, Count, Count]


class Options(Settings):
    channels: Annotated[tuple[Count, ...], Field(min_length=2)] = (32, 64, 128, 256, 320)
    """Width of each stage, finest first."""
    strides: tuple[Triple, ...] = ()
    """Downsampling (i, j, k) on entering each stage after the first; empty: 2 everywhere."""
    blocks: Count | tuple[Count, ...] = 2
    """Residual blocks of each encoder stage: one number for all, or one for each."""
    kernel: Triple = (3, 3, 3)
    """Size of the convolutions, odd; (3, 3, 1) for photographs and for slices taken one by one."""
    deep_supervision: bool = False
    """Return the logits of every decoder level, finest first."""
    checkpointing: bool = False
    """Recompute each stage in the backward pass: less memory, about a third more time."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stages = len(self.channels)
        if self.strides and len(self.strides) != stages - 1:
            raise ValueError(f"strides: {stages} stages need {stages - 1} triples, not {len(self.strides)}")
        if isinstance(self.blocks, tuple) and len(self.blocks) != stages:
            raise ValueError(f"blocks: {stages} stages need {stages} numbers, not {len(self.blocks)}")
        if not all(size % 2 for size in self.kernel):
            raise ValueError(f"kernel: {self.kernel} must be odd")
        return self

    def resolved_strides(self) -> tuple[Triple, ...]:
        return self.strides or ((2, 2, 2),) * (len(self.channels) - 1)


def divisor(options: Options) -> tuple[int, int, int]:
    sides = [1, 1, 1]
    for stride in options.resolved_strides():
        sides = [side * factor for side, factor in zip(sides, stride, strict=True)]
    return sides[0], sides[1], sides[2]


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Freshly initialised network (He normal)."""
    return ResidualUNet(options, in_channels, out_channels).apply(initialise_he)


class ResidualUNet(nn.Module):
    """`ups`, `decoder` and `heads` run from coarse to fine."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        widths, strides = options.channels, options.resolved_strides()
        blocks = options.blocks if isinstance(options.blocks, tuple) else (options.blocks,) * len(widths)
        self.checkpointing = options.checkpointing
        self.encoder = nn.ModuleList()
        for cin, cout, stride, count in zip(
            (in_channels, *widths[:-1]), widths, ((1, 1, 1), *strides), blocks, strict=True
        ):
            first = ResidualBlock(cin, cout, stride=stride, kernel=options.kernel, project=True)
            rest = (ResidualBlock(cout, cout, kernel=options.kernel) for _ in range(count - 1))
            self.encoder.append(nn.Sequential(first, *rest))
        levels = list(zip(widths[1:], widths[:-1], strides, strict=True))[::-1]
        self.ups = nn.ModuleList(Upsample(coarse, fine, stride) for coarse, fine, stride in levels)
        self.decoder = nn.ModuleList(_convolution(2 * fine, fine, options.kernel) for _, fine, _ in levels)
        heads = [nn.Conv3d(fine, out_channels, 1) for _, fine, _ in levels]
        self.heads = nn.ModuleList(heads if options.deep_supervision else heads[-1:])

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        skips = []
        for stage in self.encoder:
            x = self._run(stage, x)
            skips.append(x)
        skips.pop()
        levels = []
        for up, convolution in zip(self.ups, self.decoder, strict=True):
            x = self._run(convolution, torch.cat([up(x), skips.pop()], dim=1))
            levels.append(x)
        if len(self.heads) < len(levels):
            return self.heads[0](x)
        return tuple(head(level) for head, level in zip(self.heads, levels, strict=True))[::-1]

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        return recomputed(stage, x, when=self.checkpointing and self.training)


def _convolution(in_channels: int, out_channels: int, kernel: Triple) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel, padding=half(kernel)),
        InstanceNorm(out_channels),
        nn.LeakyReLU(SLOPE, inplace=True),
    )
