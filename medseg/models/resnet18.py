"""ResNet-18: a classifier of pictures and of slices.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385. Keys of the state_dict are
torchvision's (BSD-3-Clause), so its ImageNet weights fit. With `head: lymphoma` it is the slice classifier of
ahxmeds/classification-explanation (PET of lymphoma patients, arXiv:2403.07105), without the sigmoid at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medseg.layers import flat, refuse_one_value
from medseg.refusal import Refusal
from medseg.settings import Settings

CLASSIFIES = True
COLOURS = 3
"""Input planes of the published weights."""
STRIDE = 32
"""Pixels a side for one value of the last map."""


class Options(Settings):
    head: Literal["linear", "lymphoma"] = "linear"
    """One linear layer; or, as in the lymphoma classifier, linear to a quarter, ReLU, dropout 0.2, linear."""
    neighbours: Annotated[int, Field(ge=0)] = 0
    """Slices on each side of the one that is classified, as further input planes."""
    planes: Literal["colour", "own"] = "colour"
    """colour: one input plane is repeated three times and two become (first, second, first), such as PET, CT, PET, so
    that ImageNet weights fit; more go in as they are. own: the first convolution has as many planes as there are."""
    centres: Annotated[int, Field(ge=0)] = 0
    """How many of the last input channels say where an image was taken: one channel a centre, 1 all over for its own
    and 0 for the others. They do not go through the convolutions: the mean of each joins the features before the last
    linear layer. Normalisation must leave these channels alone (intensity `none`). 0: the network does not know."""
    width: Annotated[int, Field(ge=4)] = 64
    """Channels of the first stage; 64 in all published weights."""


def context(options: Options) -> int:
    return options.neighbours


def divisor(options: Options) -> tuple[int, int, int]:
    """Any size is taken; a picture of less than 32 x 32 ends as a map of one value."""
    return 1, 1, 1


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Logits (B, out_channels) of pictures (B, in_channels, H, W) or of slices (B, in_channels, I, J, 2n + 1).

    Raises:
        Refusal: no channel is left for the image beside those of the centres.
    """
    if in_channels <= options.centres:
        raise Refusal(
            "model.options.centres",
            found=f"{options.centres} of {in_channels} input channels",
            needed="at least one channel of an image beside them",
            remedy="give in_channels as those of the image and one for each centre",
        )
    return ResNet18(options, in_channels, out_channels)


def adapt(state: Mapping[str, Tensor], options: Options) -> dict[str, Tensor]:
    """Weights as published -> this network's names: ImageNet's last layer has no place under the lymphoma head.

    Nothing else is changed. ImageNet's last layer has 1000 classes; where the network has another number, whoever loads
    the weights finds that it does not fit.
    """
    heads = ("fc.weight", "fc.bias") if options.head == "lymphoma" else ()
    return {key: value for key, value in state.items() if key not in heads}


class Block(nn.Module):
    """conv - norm - ReLU - conv - norm, plus the input, ReLU. The shortcut is projected where sizes change."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Module):
    """Stem, four stages of two blocks, mean over what is left, the head."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        depth, width, features = 2 * options.neighbours + 1, options.width, 8 * options.width
        planes = (in_channels - options.centres) * depth
        self.centre_planes, self.slices = options.centres * depth, depth
        self.colour = options.planes == "colour"
        self.conv1 = nn.Conv2d(max(planes, COLOURS) if self.colour else planes, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(features + options.centres, out_channels)
        if options.head == "lymphoma":
            hidden = features // 4
            self.fc = nn.Sequential(
                nn.Flatten(),
                nn.Linear(features, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(0.2),
                nn.Linear(hidden + options.centres, out_channels),
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @flat
    def forward(self, x: Tensor) -> Tensor:
        refuse_one_value(self, x, (STRIDE, STRIDE))
        planes = x.shape[1] - self.centre_planes
        # The planes of one centre are its slices, one after another: their mean is the mean of all its pixels.
        centres = x[:, planes:].mean(dim=(2, 3)).unflatten(1, (-1, self.slices)).mean(dim=2)
        x = self._coloured(x[:, :planes])
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        *hidden, last = self.fc if isinstance(self.fc, nn.Sequential) else [self.fc]
        features = self.avgpool(x).flatten(1)
        for layer in hidden:
            features = layer(features)
        return last(torch.cat([features, centres], dim=1))

    def _coloured(self, x: Tensor) -> Tensor:
        if not self.colour or x.shape[1] >= COLOURS:
            return x
        return torch.cat([x, x[:, :1]], dim=1) if x.shape[1] == 2 else x.expand(-1, COLOURS, -1, -1)
