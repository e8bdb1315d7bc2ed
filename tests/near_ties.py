"""A network without training, of which the options say what bf16 does to its answers: name it as `tests.near_ties`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.settings import Settings


class Options(Settings):
    """What it answers."""

    offset: float = 0.0
    """Added to every logit. The steps between numbers in bf16 are 2 above 256, so that its logits tie there; around 0
    no sign is lost."""
    breaks: bool = False
    """Infinite answers in bf16 alone."""
    classifies: bool = False
    """One answer for the whole tile."""


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    return NearTies(options, in_channels, out_channels)


def divisor(options: Options) -> tuple[int, int, int]:
    return 1, 1, 1


class NearTies(nn.Module):
    """Where the image is bright the last class is likeliest, where it is dark the one before."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        self.options, self.last = options, nn.Conv3d(in_channels, out_channels, 1)
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.weight[-1], self.last.weight[-2] = 1, -1
            self.last.bias.fill_(options.offset)

    def forward(self, image: Tensor) -> Tensor:
        out = self.last(image.mean((2, 3, 4), keepdim=True) if self.options.classifies else image)
        return out * torch.inf if self.options.breaks and torch.is_autocast_enabled("cpu") else out
