"""Swin UNETR (MONAI's): shifted-window transformer encoder with a convolutional decoder.

Source: Hatamizadeh et al. 2022, "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI
Images", arXiv:2201.01266. V2: He et al. 2023, "SwinUNETR-V2: Stronger Swin Transformers with Stagewise Convolutions
for 3D Medical Image Segmentation", MICCAI.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from monai.networks.nets.swin_unetr import PatchMerging, SwinUNETR
from pydantic import Field
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from medseg.layers import replace_instance_norms
from medseg.refusal import Refusal
from medseg.settings import Settings

HEADS = ("out.",)
STEM = ("swinViT.patch_embed.proj.weight", "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight")
UNSEEN = ("patch_merging",)
ENCODER = "swinViT."
ALONE = ("patch_embed.", "layers1.", "layers2.", "layers3.", "layers4.")
"""How names begin in a file that holds the encoder alone."""

Rate = Annotated[float, Field(ge=0, lt=1)]


class Options(Settings):
    feature_size: Annotated[int, Field(ge=12, multiple_of=12)] = 48
    """Channels of the first stage; 48 in the paper and in the published weights."""
    use_v2: bool = False
    """A residual convolution block before each transformer stage."""
    patch_merging: Literal["merging", "merging_legacy", "mergingv2"] = "merging"
    """Order in which the 2 x 2 x 2 neighbours are joined. All three have weights of the same shape, so weights load
    into the wrong order without an error and give wrong numbers. Weights published or trained with MONAI up to 1.4
    (BraTS 2021, model_swinvit.pt) need `merging_legacy`."""
    drop_rate: Rate = 0.0
    """Dropout in the perceptrons."""
    attn_drop_rate: Rate = 0.0
    """Dropout of attention weights."""
    dropout_path_rate: Rate = 0.0
    """Stochastic depth."""
    use_checkpoint: bool = False
    """Recompute the transformer blocks in the backward pass: less memory, more time."""


class LegacyPatchMerging(PatchMerging):
    """`merging` as it was up to MONAI 1.4: two of the eight neighbours are taken twice and two never."""

    OFFSETS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W, C) to (B, D/2, H/2, W/2, 2C), sides rounded up."""
        depth, height, width = x.shape[1:4]
        x = nn.functional.pad(x, (0, 0, 0, width % 2, 0, height % 2, 0, depth % 2))
        return self.reduction(self.norm(torch.cat([x[:, i::2, j::2, k::2] for i, j, k in self.OFFSETS], dim=-1)))


def divisor(options: Options) -> tuple[int, int, int]:
    return 32, 32, 32


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """MONAI's network and initialisation; `state_dict` keys are MONAI's."""
    with _Readable():
        network = SwinUNETR(
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=options.feature_size,
            drop_rate=options.drop_rate,
            attn_drop_rate=options.attn_drop_rate,
            dropout_path_rate=options.dropout_path_rate,
            use_checkpoint=options.use_checkpoint,
            use_v2=options.use_v2,
            downsample=LegacyPatchMerging if options.patch_merging == "merging_legacy" else options.patch_merging,
        )
    replace_instance_norms(network)
    return network


class _Readable(TorchFunctionMode):
    """Makes `torch.linspace` on the CPU: MONAI's constructor reads its values, which the meta device does not have."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        return function(*args, **({"device": "cpu"} if function is torch.linspace else {}) | (options or {}))


def adapt(state: dict[str, Tensor], options: Options) -> dict[str, Tensor]:
    """Published names -> this network's.

    The self-supervised encoder (`model_swinvit.pt`: Tang et al. 2022, arXiv:2111.14791) lacks the prefix `swinViT.` and
    calls the layers of its perceptrons fc1 and fc2. Whole networks (BraTS 2021, BTCV) have this network's names.

    Raises:
        Refusal: an encoder of another width. Its tables of attention would fit, and nothing else.
    """
    adapted = {}
    for name, tensor in state.items():
        name = ENCODER + name if name.startswith(ALONE) else name
        if name.startswith(ENCODER):
            name = name.replace(".mlp.fc1.", ".mlp.linear1.").replace(".mlp.fc2.", ".mlp.linear2.")
        adapted[name] = tensor
    width = len(adapted.get(f"{ENCODER}patch_embed.proj.bias", torch.empty(options.feature_size)))
    if width != options.feature_size:
        raise Refusal(
            "model.feature_size",
            found=f"{options.feature_size}",
            needed=f"{width}, the width of these weights",
            remedy=f"set model.feature_size={width}",
        )
    return adapted
