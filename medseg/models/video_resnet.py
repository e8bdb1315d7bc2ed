"""Video ResNets with 18 layers (3-D, mixed, (2+1)-D): classifiers of whole volumes.

Source: Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions for Action Recognition", arXiv:1711.11248. Keys
of the state_dict are torchvision's (BSD-3-Clause), so its Kinetics-400 weights fit. On brain tumours: Chatterjee et al.
2022, Scientific Reports 12, doi:10.1038/s41598-022-05572-6 (`frames: i`, `dropout: 0.3`, one channel).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from medseg.layers import refuse_one_value
from medseg.settings import Settings

CLASSIFIES = True
AXES = {"i": (0, 1, 2, 3, 4), "j": (0, 1, 3, 2, 4), "k": (0, 1, 4, 3, 2)}
"""Order in which the axes of (B, C, I, J, K) become time, height and width; `k` shows slices as pictures are shown."""

Sizes = tuple[int, int, int]


class Options(Settings):
    kind: Literal["r3d_18", "mc3_18", "r2plus1d_18"] = "r2plus1d_18"
    """3-D convolutions; mixed: 3-D in the first stage, 2-D after it; or 2-D followed by 1-D everywhere. mc3_18 has the
    fewest weights and takes the most time, because it never shortens the frames axis."""
    frames: Literal["i", "j", "k"] = "k"
    """Axis of the prepared volume that the network takes for a video's time. The brain tumour paper used i."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Before the last layer; its keys are `fc.1.*` instead of `fc.*` where this is not 0, as in the brain paper."""
    width: Annotated[int, Field(ge=4)] = 64
    """Channels of the first stage; 64 in the papers and in all published weights."""
    stem: Literal["keep", "fresh", "sum"] = "keep"
    """What happens to the first layers of weights that are loaded. keep: they are taken as they are. fresh: left out,
    so that the network's own random ones stay, as in the brain paper. sum: kernels are summed over the colours, so
    that one channel gives what the same picture in three equal colours gave."""


def divisor(options: Options) -> Sizes:
    """Any size is taken; what is smaller than 8 x 16 x 16 (frames first) ends as a map of one value."""
    return 1, 1, 1


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Logits (B, out_channels) of volumes (B, in_channels, I, J, K)."""
    return VideoResNet(options, in_channels, out_channels)


def adapt(state: Mapping[str, Tensor], options: Options) -> dict[str, Tensor]:
    """Weights as published -> this network's names: the last layer's name, and the stem as `Options.stem` says.

    Nothing else is changed. The last layer of Kinetics-400 has 400 classes, and its stem three colours; where the
    network has other numbers, whoever loads the weights finds that they do not fit.
    """
    renamed = {}
    for key, value in state.items():
        if key.startswith("stem.") and options.stem == "fresh":
            continue
        if key == "stem.0.weight" and options.stem == "sum":
            value = value.sum(dim=1, keepdim=True)
        if key.startswith("fc."):
            key = ("fc.1." if options.dropout else "fc.") + key.rpartition(".")[2]
        renamed[key] = value
    return renamed


class Spatiotemporal(nn.Sequential):
    """A spatial and a temporal convolution in the place of one 3 x 3 x 3; `middle` maps between them."""

    def __init__(self, cin: int, cout: int, middle: int, stride: int):
        super().__init__(
            nn.Conv3d(cin, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, cout, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class Block(nn.Module):
    """conv - norm - ReLU - conv - norm, plus the input, ReLU. The shortcut is projected where sizes change."""

    def __init__(self, form: str, cin: int, cout: int, stride: int):
        super().__init__()
        # A (2+1)-D pair gets about as many weights as one 3-D convolution; the widths of the block decide for both.
        middle = (27 * cin * cout) // (9 * cin + 3 * cout)

        def convolution(channels: int, step: int) -> nn.Module:
            if form == "2+1":
                return Spatiotemporal(channels, cout, middle, step)
            if form == "2":
                return nn.Conv3d(channels, cout, (1, 3, 3), (1, step, step), (0, 1, 1), bias=False)
            return nn.Conv3d(channels, cout, 3, step, 1, bias=False)

        self.conv1 = nn.Sequential(convolution(cin, stride), nn.BatchNorm3d(cout), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(convolution(cout, 1), nn.BatchNorm3d(cout))
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            steps = (1 if form == "2" else stride, stride, stride)
            self.downsample = nn.Sequential(nn.Conv3d(cin, cout, 1, steps, bias=False), nn.BatchNorm3d(cout))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.conv1(x)) + self.downsample(x))


class VideoResNet(nn.Module):
    """Stem, four stages of two blocks, mean over what is left, one linear layer."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        self.axes = AXES[options.frames]
        width, kind = options.width, options.kind
        self.strides = (1 if kind == "mc3_18" else 8, 16, 16)
        first = "2+1" if kind == "r2plus1d_18" else "3"
        later = "2" if kind == "mc3_18" else first
        self.stem = _stem(first, in_channels, width)
        self.layer1 = nn.Sequential(Block(first, width, width, 1), Block(first, width, width, 1))
        self.layer2 = nn.Sequential(Block(later, width, 2 * width, 2), Block(later, 2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Block(later, 2 * width, 4 * width, 2), Block(later, 4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Block(later, 4 * width, 8 * width, 2), Block(later, 8 * width, 8 * width, 1))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        last = nn.Linear(8 * width, out_channels)
        self.fc = nn.Sequential(nn.Dropout(options.dropout), last) if options.dropout else last
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(last.weight, 0, 0.01)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(self.axes)
        refuse_one_value(self, x, self.strides)
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.avgpool(x).flatten(1))


def _stem(form: str, in_channels: int, width: int) -> nn.Sequential:
    """Halves height and width. The (2+1)-D one has 45 maps between its two convolutions at the published width."""
    middle = 45 * width // 64 if form == "2+1" else width
    kernel, padding = ((1, 7, 7), (0, 3, 3)) if form == "2+1" else ((3, 7, 7), (1, 3, 3))
    parts: list[nn.Module] = [
        nn.Conv3d(in_channels, middle, kernel, (1, 2, 2), padding, bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
    ]
    if form == "2+1":
        parts += [
            nn.Conv3d(middle, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*parts)
