"""STU-Net S, B, L or H: residual U-Net that scales to 1.4 billion weights; module and key names as published.

Source: Huang et al. 2023, "STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by
Large-Scale Supervised Pre-training", arXiv:2304.06716. Kernels are always 3 x 3 x 3, so the pools change no weight's
shape: weights load into any pooling, and the wrong one gives wrong numbers without an error.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from medseg.layers import ResidualBlock, Upsample, initialise_he, recomputed
from medseg.settings import Settings

LEVELS = 5
"""Pooling steps; there is one encoder stage more."""
GROWTH = (1, 2, 4, 8, 16, 16)
"""Channels of each encoder stage, in widths."""

HEADS = ("seg_outputs.",)
STEM = ("conv_blocks_context.0.0.conv1.weight", "conv_blocks_context.0.0.conv3.weight")
UNSEEN = ("pools",)

Pool = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class Size(NamedTuple):
    """Channels of the first stage and residual blocks per stage."""

    width: int
    depth: int


SIZES = {"S": Size(16, 1), "B": Size(32, 1), "L": Size(64, 2), "H": Size(96, 3)}


class Options(Settings):
    size: Literal["S", "B", "L", "H"] = "B"
    """14.6, 58.3, 440 or 1457 million weights."""
    width: Annotated[int, Field(ge=1)] | None = None
    """Channels of the first stage in place of the size's own: 16, 32, 64, 96."""
    pools: Annotated[tuple[Pool, ...], Field(max_length=LEVELS)] = (*((2, 2, 2),) * 4, (1, 1, 2))
    """Downsampling (i, j, k) of each level, finest first; missing ones count as (1, 1, 1). Default: as in the published
    TotalSegmentator weights, which were trained with this plan."""
    deep_supervision: bool = True
    """Return the logits of all five decoder levels, finest first."""
    checkpointing: bool = False
    """Recompute each stage in the backward pass: less memory, about a third more time."""


def divisor(options: Options) -> tuple[int, int, int]:
    sides = [1, 1, 1]
    for pool in options.pools:
        sides = [side * factor for side, factor in zip(sides, pool, strict=True)]
    return sides[0], sides[1], sides[2]


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Freshly initialised network (He normal, as in the original's training)."""
    return STUNet(options, in_channels, out_channels).apply(initialise_he)


class STUNet(nn.Module):
    """Index 0 of `upsample_layers`, `conv_blocks_localization` and `seg_outputs` is the coarsest level."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        size = SIZES[options.size]
        widths = [(options.width or size.width) * growth for growth in GROWTH]
        pools = (*options.pools, *((1, 1, 1),) * (LEVELS - len(options.pools)))
        self.deep_supervision = options.deep_supervision
        self.checkpointing = options.checkpointing
        self.conv_blocks_context = nn.ModuleList([_stage(in_channels, widths[0], (1, 1, 1), size.depth)])
        self.conv_blocks_context.extend(
            _stage(widths[level], widths[level + 1], pools[level], size.depth) for level in range(LEVELS)
        )
        self.upsample_layers = nn.ModuleList()
        self.conv_blocks_localization = nn.ModuleList()
        self.seg_outputs = nn.ModuleList()
        for level in reversed(range(LEVELS)):
            self.upsample_layers.append(Upsample(widths[level + 1], widths[level], pools[level]))
            self.conv_blocks_localization.append(_stage(2 * widths[level], widths[level], (1, 1, 1), size.depth))
            self.seg_outputs.append(nn.Conv3d(widths[level], out_channels, 1))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        skips = []
        for stage in self.conv_blocks_context:
            x = self._run(stage, x)
            skips.append(x)
        skips.pop()
        outputs: list[Tensor] = []
        for upsample, stage, head in zip(
            self.upsample_layers, self.conv_blocks_localization, self.seg_outputs, strict=True
        ):
            x = self._run(stage, torch.cat([upsample(x), skips.pop()], dim=1))
            if self.deep_supervision or not skips:
                outputs.append(head(x))
        return tuple(reversed(outputs)) if self.deep_supervision else outputs[0]

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        return recomputed(stage, x, when=self.checkpointing and self.training)


def _stage(in_channels: int, out_channels: int, stride: tuple[int, int, int], depth: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride=stride, project=True)
    return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels) for _ in range(depth - 1)))
