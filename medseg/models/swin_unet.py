"""Swin-Unet: U-shaped network of shifted-window transformer blocks alone, for slices and pictures of one fixed size.

Source: Cao et al. 2021, "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", arXiv:2105.05537;
HuCaoFighting/Swin-Unet, which has no licence, so this is written from a description of what it computes. Parameters
are named as in its `SwinTransformerSys`. The decoder mirrors the encoder: it has the same depths and heads.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medseg.layers import flat
from medseg.settings import Settings
from medseg.swin_layers import PatchEmbed, PatchExpand, initialise
from medseg.swin_pyramid import check, decoder_stages, encoder_stages, published, refuse_other_sizes, skip_reducers

COLOURS = 3
"""A single channel is repeated this often, because published weights were trained on colours."""

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Options(Settings):
    img_size: Count = 224
    """Height and width of the input in pixels; the network works on no other."""
    patch_size: Count = 4
    """Side of the squares that become one token."""
    embed_dim: Annotated[int, Field(ge=2)] = 96
    """Channels of the finest stage; they double with each further one."""
    depths: Annotated[tuple[Count, ...], Field(min_length=2)] = (2, 2, 2, 2)
    """Transformer blocks of each encoder stage, finest first."""
    num_heads: tuple[Count, ...] = (3, 6, 12, 24)
    """Attention heads of each stage."""
    window_size: Count = 7
    """Side of the attention windows in tokens; a stage with fewer tokens has one window."""
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Hidden units of the perceptrons, in channels."""
    qkv_bias: bool = True
    """Biases of queries, keys and values."""
    drop_rate: Rate = 0.0
    """Dropout of tokens, projections and perceptrons."""
    attn_drop_rate: Rate = 0.0
    """Dropout of attention weights."""
    drop_path_rate: Rate = 0.2
    """Stochastic depth of the last block; it rises to that linearly from 0."""
    checkpointing: bool = False
    """Recompute the transformer blocks in the backward pass: less memory, more time."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check(self)
        return self


def divisor(options: Options) -> tuple[int, int, int]:
    return options.img_size, options.img_size, 1


def context(options: Options) -> int:
    return 0


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Freshly initialised network; one image channel is repeated to three."""
    return SwinUnet(options, in_channels, out_channels).apply(initialise)


def adapt(state: dict[str, Tensor], options: Options) -> dict[str, Tensor]:
    """Weights of Swin-Unet (prefix `swin_unet.`), or of an ImageNet Swin Transformer such as Swin-T as first weights.

    An ImageNet encoder is also copied into the decoder, as the original does; what has no place here is left out.
    """
    with torch.device("meta"):
        expected = SwinUnet(options, COLOURS, 1).state_dict()
    return published(state, expected)


class SwinUnet(nn.Module):
    """Logits (B, N, H, W) for pictures (B, C, H, W); index 0 of `layers_up` and `concat_back_dim` is the coarsest."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        self.options, self.grey = options, in_channels == 1
        dim, coarsest = options.embed_dim, options.embed_dim * 2 ** (len(options.depths) - 1)
        self.patch_embed = PatchEmbed(COLOURS if self.grey else in_channels, dim, options.patch_size)
        self.pos_drop = nn.Dropout(options.drop_rate)
        self.layers = encoder_stages(options)
        self.norm = nn.LayerNorm(coarsest)
        self.layers_up = decoder_stages(options)
        self.concat_back_dim = skip_reducers(options)
        self.norm_up = nn.LayerNorm(dim)
        self.up = PatchExpand(dim, dim, options.patch_size)
        self.output = nn.Conv2d(dim, out_channels, 1, bias=False)

    @flat
    def forward(self, x: Tensor) -> Tensor:
        refuse_other_sizes(x, self.options, "swin_unet")
        x = self.pos_drop(self.patch_embed(x.expand(-1, COLOURS, -1, -1) if self.grey else x))
        skips = []
        for stage in self.layers:
            skips.append(x)
            x, _ = stage(x)
        skips.pop()
        x = self.layers_up[0](self.norm(x))
        for join, stage in zip(self.concat_back_dim[1:], self.layers_up[1:], strict=True):
            x, _ = stage(join(torch.cat([x, skips.pop()], dim=-1)))
        return self.output(self.up(self.norm_up(x)).permute(0, 3, 1, 2))
