"""SWTR-Unet, a reconstruction: ResNet encoder, shifted-window transformer at its end, U-Net decoder; 2-D or 2.5-D.

Source: Hille et al. 2023, "Joint liver and hepatic lesion segmentation in MRI using a hybrid CNN with transformer
layers", Computer Methods and Programs in Biomedicine, arXiv:2201.10981. Its code was not published. From the paper's
abstract: a ResNet with pretrained weights, transformer blocks, and the usual U-Net decoder. Everything else here is
inferred: that the transformer blocks are Swin blocks and stand between encoder and decoder, that the ResNet is a
ResNet-50 without its last stage, that the network sees slices, and every size. So its results are not the paper's.

The encoder's parameters are named as in torchvision's ResNet-50, whose weights want colours normalised as ImageNet's.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medseg.layers import flat, recomputed
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.swin_layers import SwinBlock, initialise, shifted

COLOURS = 3
"""A single channel is repeated this often, because published weights were trained on colours."""
REDUCTION = 16
"""The coarsest map has 1 / this of the picture's side."""
GROWTH = 4
"""Channels that leave a bottleneck block, in channels inside it."""

Count = Annotated[int, Field(ge=1)]


class Options(Settings):
    encoder_depths: tuple[Count, Count, Count] = (3, 4, 6)
    """Bottleneck blocks at 1/4, 1/8 and 1/16 of the picture's side; those of ResNet-50."""
    encoder_width: Count = 64
    """Channels of the first convolution; the three stages have 4, 8 and 16 times as many."""
    transformer: bool = True
    """The Swin blocks; without them the network is a U-Net with a ResNet encoder."""
    shift: bool = True
    """Shift the windows of every other Swin block; without it tokens of two windows never meet there."""
    placement: Literal["bottleneck", "each_stage"] = "bottleneck"
    """All Swin blocks behind the encoder, or of every three pairs one behind each encoder stage (the last stage gets
    the remainder), working at that stage's own resolution and channels; their number is the same."""
    blocks: Count = 8
    """Swin blocks in all."""
    embed_dim: Count = 512
    """Channels of the Swin blocks behind the encoder."""
    num_heads: Count = 16
    """Attention heads there; blocks behind an earlier stage have heads of as many channels."""
    window_size: Count = 7
    """Side of the attention windows in tokens of 16 pixels; a map that they do not fill is padded."""
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Hidden units of the perceptrons, in channels."""
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Stochastic depth of the last Swin block; it rises to that linearly from 0."""
    bridge_width: Count = 512
    """Channels of the convolution between transformer and decoder."""
    decoder_widths: tuple[Count, Count, Count, Count] = (256, 128, 64, 16)
    """Channels of the decoder at 1/8, 1/4, 1/2 and the whole of the picture's side."""
    neighbours: Annotated[int, Field(ge=0)] = 0
    """Slices on each side that the network sees besides the one it answers for, as channels; 0 is 2-D."""
    checkpointing: bool = False
    """Recompute the Swin blocks in the backward pass: less memory, more time."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads: {self.embed_dim} channels do not divide among {self.num_heads} heads")
        if self.placement == "each_stage":
            if self.blocks < 6:
                raise ValueError(f"blocks: a pair behind each of three stages makes 6, more than {self.blocks}")
            if GROWTH * self.encoder_width % (self.embed_dim // self.num_heads):
                raise ValueError(
                    f"encoder_width: a stage of {GROWTH * self.encoder_width} channels does not divide into heads of "
                    f"{self.embed_dim // self.num_heads}"
                )
        return self

    def split(self) -> tuple[int, int, int]:
        """Swin blocks behind each of the three encoder stages."""
        if not self.transformer:
            return 0, 0, 0
        early = 2 * (self.blocks // 6) if self.placement == "each_stage" else 0
        return early, early, self.blocks - 2 * early


def divisor(options: Options) -> tuple[int, int, int]:
    return REDUCTION, REDUCTION, 1


def context(options: Options) -> int:
    return options.neighbours


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Freshly initialised network. It sees `in_channels` of each slice; a single one, of one slice, is repeated to
    three."""
    return SwtrUnet(options, in_channels, out_channels).apply(initialise).apply(_initialise_convolution)


def adapt(state: dict[str, Tensor], options: Options) -> dict[str, Tensor]:
    """Weights of torchvision's ResNet-50 for the encoder: without its last stage and its classifier."""
    return {key: value for key, value in state.items() if not key.startswith(("layer4.", "fc."))}


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (which has the stride) and 1 x 1 convolution, plus the input (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        out_channels = GROWTH * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + (self.downsample(x) if self.downsample else x)).relu()


class SwinSequence(nn.Module):
    """Swin blocks on maps (B, C, H, W) of any size, in pairs of plain and shifted windows."""

    def __init__(self, options: Options, dim: int, heads: int, drop_path: list[float]):
        super().__init__()
        self.side, self.checkpointing = options.window_size, options.checkpointing
        self.amounts = (0, self.side // 2 if options.shift else 0)
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, self.side, mlp_ratio=options.mlp_ratio, drop_path=rate) for rate in drop_path
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % self.side, 0, -height % self.side))
        shifts = [shifted(height, width, self.side, amount, x.device) for amount in self.amounts]
        for number, block in enumerate(self.blocks):
            x, _ = recomputed(block, x, None, shifts[number % 2], when=self.checkpointing and self.training)
        return x[:, :height, :width].permute(0, 3, 1, 2)


class SwtrUnet(nn.Module):
    """Logits (B, N, H, W) for pictures (B, C, H, W); index 0 of `swin` is the finest stage, of `decoder` the coarsest.

    `swin` has a SwinSequence for each encoder stage, or an Identity where there are no blocks.
    """

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        width, dim = options.encoder_width, options.embed_dim
        channels = in_channels * (2 * options.neighbours + 1)
        self.grey = channels == 1
        self.conv1 = nn.Conv2d(COLOURS if self.grey else channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        first, second, third = options.encoder_depths
        self.layer1 = _stage(width, width, first, stride=1)
        self.layer2 = _stage(4 * width, 2 * width, second, stride=2)
        self.layer3 = _stage(8 * width, 4 * width, third, stride=2)
        self.embed = nn.Conv2d(16 * width, dim, 1)
        self.swin = _swin(options, (4 * width, 8 * width, dim))
        self.norm = nn.LayerNorm(dim) if options.transformer else nn.Identity()
        self.bridge = _convolution(dim, options.bridge_width)
        self.decoder = nn.ModuleList()
        incoming = (options.bridge_width, *options.decoder_widths[:-1])
        for below, skip, here in zip(incoming, (8 * width, 4 * width, width, 0), options.decoder_widths, strict=True):
            self.decoder.append(nn.Sequential(_convolution(below + skip, here), _convolution(here, here)))
        self.head = nn.Conv2d(options.decoder_widths[-1], out_channels, 3, padding=1)

    @flat
    def forward(self, x: Tensor) -> Tensor:
        _refuse_fractions(x)
        x = self.bn1(self.conv1(x.expand(-1, COLOURS, -1, -1) if self.grey else x)).relu()
        skips = [x]
        for stage, swin in zip((self.layer1, self.layer2), self.swin[:2], strict=True):
            x = swin(stage(self.maxpool(x) if len(skips) == 1 else x))
            skips.append(x)
        x = self.swin[2](self.embed(self.layer3(x)))
        x = self.bridge(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        for level in self.decoder:
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = level(torch.cat([x, skips.pop()], dim=1) if skips else x)
        return self.head(x)


def _stage(in_channels: int, width: int, count: int, *, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride)
    return nn.Sequential(first, *(Bottleneck(GROWTH * width, width, 1) for _ in range(count - 1)))


def _swin(options: Options, dims: tuple[int, int, int]) -> nn.ModuleList:
    total = sum(options.split())
    rates = [options.drop_path_rate * number / max(total - 1, 1) for number in range(total)]
    parts = nn.ModuleList()
    for dim, count in zip(dims, options.split(), strict=True):
        here, rates = rates[:count], rates[count:]
        heads = dim * options.num_heads // options.embed_dim
        parts.append(SwinSequence(options, dim, heads, here) if count else nn.Identity())
    return parts


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _refuse_fractions(x: Tensor) -> None:
    height, width = x.shape[-2:]
    if height % REDUCTION or width % REDUCTION:
        raise Refusal(
            "model swtr_unet",
            found=f"a picture of {height} x {width} pixels",
            needed=f"a height and a width that are multiples of {REDUCTION}",
            remedy="make the patch such a size, or pad the picture",
        )


def _initialise_convolution(module: nn.Module) -> None:
    """For `Module.apply`: as torchvision does, where a batch norm follows; such convolutions have no bias."""
    if isinstance(module, nn.Conv2d) and module.bias is None:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
