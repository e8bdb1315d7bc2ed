"""RRWNet: recursive refinement of artery, vein and vessel maps of the retina (2-D), and its ablations.

A first U-Net draws arteries, veins and all vessels from the photograph; a second one, which sees only these maps,
corrects arteries and veins again and again with the same weights, and so mends vessels that change their class halfway.
Source: Morano, Aresta and Bogunovic 2024, "RRWNet: Recursive Refinement Network for effective retinal artery/vein
segmentation and classification", Expert Systems with Applications, doi:10.1016/j.eswa.2024.124970. Original:
j-morano/rrwnet (code MIT, weights CC BY-NC 4.0). Written from a description of its structure and compared with its
outputs (tests/golden).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medseg.layers import flat
from medseg.refusal import Refusal
from medseg.settings import Settings

Variant = Literal["rrwnet", "unet", "wnet", "rrunet", "rrwnetall"]
STEP = 16
"""Four poolings by two."""
MAPS = 3
"""Arteries, veins, all vessels: in this order."""
CHANNELS = (3, MAPS)
"""In and out, where nobody says otherwise; other networks are described with 1 and 2."""


class Options(Settings):
    base_channels: Annotated[int, Field(ge=1)] = 64
    """Width of the finest stage; the next four have 2, 4, 8 and 16 times as much."""
    iterations: Annotated[int, Field(ge=0)] = 5
    """Refinements after the first one: the second U-Net runs once more than this. Without meaning for `unet` and
    `wnet`."""
    variant: Variant = "rrwnet"
    """`rrwnet`: as published. The ablations of its paper: `unet` (the first U-Net alone), `wnet` (one refinement, of
    all maps), `rrunet` (one U-Net that sees the photograph and its own last maps), `rrwnetall` (all maps refined, the
    vessels' too). The ablations take any number of labels."""
    init: Literal["torch", "he"] = "torch"
    """Fresh weights: PyTorch's default, as published, under which signals fade from layer to layer and learning starts
    slowly; or He's normal for ReLU with biases of 0, for short trainings."""


def divisor(options: Options) -> tuple[int, int, int]:
    return STEP, STEP, 1


def context(options: Options) -> int:
    return 0


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Freshly initialised network. Its answers are logits, the last refinement first.

    Raises:
        Refusal: `rrwnet` with other than three labels.
    """
    network = _build(options, in_channels, out_channels)
    return network.apply(_he) if options.init == "he" else network


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _build(options: Options, in_channels: int, out_channels: int) -> nn.Module:
    base = options.base_channels
    if options.variant == "unet":
        return UNet(in_channels, out_channels, base)
    if options.variant == "rrunet":
        return RRUNet(in_channels, out_channels, base, passes=1 + options.iterations)
    if options.variant == "rrwnet" and out_channels != MAPS:
        raise Refusal(
            "model rrwnet",
            found=f"{out_channels} channels to predict",
            needed="three overlapping labels: artery, vein, all vessels, in this order",
            remedy="correct the label table, or set `variant` to 'rrwnetall', which refines any number of labels",
        )
    passes = 1 if options.variant == "wnet" else 1 + options.iterations
    return RRWNet(in_channels, out_channels, base, passes=passes, keep_vessels=options.variant == "rrwnet")


def adapt(state: Mapping[str, Tensor], options: Options) -> dict[str, Tensor]:
    """The published checkpoints' names -> this network's.

    They hold every convolution under two names, `conv1` and `conv_block.0` (`conv2` and `conv_block.2`; `conv` and
    `conv_block.0` in the transposed ones); files that drop doubles may keep either.
    """
    renamed = {_short(key): value for key, value in state.items() if ".conv_block." in key}
    return renamed | {key: value for key, value in state.items() if ".conv_block." not in key}


def _short(key: str) -> str:
    block, rest = key.split(".conv_block.")
    place, name = rest.split(".", 1)
    if block.rpartition(".")[2].startswith("upconv"):
        return f"{block}.conv.{name}"
    return f"{block}.conv{int(place) // 2 + 1}.{name}"


class Block(nn.Module):
    """Twice: convolution 3 x 3, ReLU."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu_()).relu_()


class Up(nn.Module):
    """Twice as large by a transposed convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UNet(nn.Module):
    """Five stages, no normalisation; `conv1` to `conv5` lead down, `conv6` to `conv9` up."""

    def __init__(self, in_channels: int, out_channels: int, base: int):
        super().__init__()
        self.in_channels = in_channels
        widths = [base * 2**level for level in range(5)]
        for level, (before, width) in enumerate(zip([in_channels, *widths], widths, strict=False), start=1):
            self.add_module(f"conv{level}", Block(before, width))
        for step in range(1, 5):
            fine = widths[4 - step]
            self.add_module(f"upconv{step}", Up(2 * fine, fine))
            self.add_module(f"conv{5 + step}", Block(2 * fine, fine))
        self.outconv = nn.Conv2d(base, out_channels, 1)

    @flat
    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of (B, in_channels, H, W).

        Raises:
            Refusal: a side is no multiple of 16, or another number of channels.
        """
        _check(x, self.in_channels)
        skips = []
        for level in range(1, 6):
            x = self.get_submodule(f"conv{level}")(x)
            if level < 5:
                skips.append(x)
                x = nn.functional.max_pool2d(x, 2)
        for step in range(1, 5):
            up = self.get_submodule(f"upconv{step}")(x)
            x = self.get_submodule(f"conv{5 + step}")(torch.cat([skips.pop(), up], dim=1))
        return self.outconv(x)


class RRWNet(nn.Module):
    """Two U-Nets, the second of which runs `passes` times.

    Args:
        in_channels: of the photograph.
        out_channels: maps.
        base: width of the finest stage.
        passes: of the second U-Net.
        keep_vessels: the third map, all vessels, stays as the first U-Net drew it.
    """

    def __init__(self, in_channels: int, out_channels: int, base: int, *, passes: int, keep_vessels: bool):
        super().__init__()
        self.refined = 2 if keep_vessels else out_channels
        self.passes = passes
        self.first_u = UNet(in_channels, out_channels, base)
        self.second_u = UNet(out_channels, self.refined, base)

    @flat
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits of every refinement, the last one first, and at the end those of the first U-Net."""
        first = self.first_u(x)
        kept = first[:, self.refined :]
        refinements = [torch.cat([logits, kept], dim=1) for logits in self._recursion(first.sigmoid())]
        return (*refinements[::-1], first)

    @flat
    def refine(self, x: Tensor) -> tuple[Tensor, ...]:
        """Refine the maps of another method; no photograph is needed, and the first U-Net takes no part.

        Args:
            x: probabilities (B, maps, H, W), from 0 to 1: arteries, veins, all vessels.

        Returns:
            Probabilities (not logits) of every refinement, the last one first; all vessels as they came.

        Raises:
            Refusal: a side is no multiple of 16, or another number of maps.
        """
        kept = x[:, self.refined :]
        return tuple(torch.cat([logits.sigmoid(), kept], dim=1) for logits in self._recursion(x)[::-1])

    def _recursion(self, maps: Tensor) -> list[Tensor]:
        """Logits of the refined maps, pass by pass. Gradients flow through all of them."""
        kept, passes = maps[:, self.refined :], []
        for _ in range(self.passes):
            passes.append(self.second_u(maps))
            maps = torch.cat([passes[-1].sigmoid(), kept], dim=1)
        return passes


class RRUNet(nn.Module):
    """One U-Net that sees the photograph and its own last maps, which begin at 0."""

    def __init__(self, in_channels: int, out_channels: int, base: int, *, passes: int):
        super().__init__()
        self.in_channels, self.out_channels, self.passes = in_channels, out_channels, passes
        self.unet_module = UNet(in_channels + out_channels, out_channels, base)

    @flat
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits of every pass, the last one first."""
        _check(x, self.in_channels)
        maps, passes = x.new_zeros(len(x), self.out_channels, *x.shape[2:]), []
        for _ in range(self.passes):
            passes.append(self.unet_module(torch.cat([x, maps], dim=1)))
            maps = passes[-1].sigmoid()
        return tuple(passes[::-1])


def _check(x: Tensor, channels: int) -> None:
    if x.shape[1] != channels or any(side % STEP for side in x.shape[2:]):
        raise Refusal(
            "input of rrwnet",
            found=f"shape {tuple(x.shape)}",
            needed=f"(batch, {channels}, height, width) with sides that are multiples of {STEP}",
            remedy="give the channels that the network was built for, and pad the sides",
        )
