"""Attention Swin U-Net: Swin-Unet whose decoder also uses the encoder's attention, with cross-contextual skips.

Source: Aghdam et al. 2022, "Attention Swin U-Net: Cross-Contextual Attention Mechanism for Skin Lesion Segmentation",
arXiv:2210.16898; NITR098/AttSwinUNet, which has no licence, so this is written from a description of what it computes.
Parameters are named as there.

The released code does not do what its figure shows: it adds the encoder's attention to a value that nobody reads. By
default the two are merged here as the figure has it, after the softmax and before the product with the values; this is
our reading. `legacy` computes what the released code computes, for its weights and for comparisons with it:

* the encoder's attention has no effect;
* in mode "swin" with `spatial_attention` each skip is joined twice, by the same weights;
* weights that nothing uses (`patch_embed`, `decoder.norm`, skip transformers beyond `skip_num`) are there, untrained.

The released code always answers with 9 channels; this network has as many as it is asked for.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medseg.layers import flat
from medseg.settings import Settings
from medseg.swin_layers import Merge, PatchEmbed, PatchExpand, initialise
from medseg.swin_pyramid import check, decoder_stages, encoder_stages, published, refuse_other_sizes, skip_reducers

COLOURS = 3
"""A single channel is repeated this often, because published weights were trained on colours."""
CROSS_DEPTH, CROSS_HEADS, CROSS_HEAD_DIM = 2, 8, 64
"""Layers, heads and channels of a head of each transformer between a skip and its decoder stage."""

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Options(Settings):
    mode: Literal["cross_contextual_attention", "swin"] = "cross_contextual_attention"
    """How a skip joins the decoder: after the two exchanged their global token by cross attention, or as it is."""
    skip_num: Annotated[int, Field(ge=0)] = 3
    """Number of skips, coarsest first, with cross-contextual attention; the others join as they are."""
    spatial_attention: bool = True
    """Merge the attention of the last block of each encoder stage into the decoder's blocks of that resolution."""
    operation: Literal["+", "mul"] = "+"
    """How the two attentions are merged; they are not normalised again."""
    legacy: bool = False
    """Compute what the released code computes, with all its weights; see this model's description."""
    img_size: Count = 224
    """Height and width of the input in pixels; the network works on no other."""
    patch_size: Count = 4
    """Side of the squares that become one token."""
    embed_dim: Annotated[int, Field(ge=2)] = 96
    """Channels of the finest stage; they double with each further one."""
    depths: Annotated[tuple[Count, ...], Field(min_length=2)] = (2, 2, 6, 2)
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
    drop_path_rate: Rate = 0.1
    """Stochastic depth of the last block; it rises to that linearly from 0."""
    checkpointing: bool = False
    """Recompute the transformer blocks in the backward pass: less memory, more time."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check(self)
        if self.skip_num >= len(self.depths):
            raise ValueError(f"skip_num: {len(self.depths)} stages have {len(self.depths) - 1} skips")
        return self

    def crossed(self) -> range:
        """Encoder stages whose output reaches the decoder by cross-contextual attention."""
        skips = len(self.depths) - 1
        return range(skips - self.skip_num if self.mode == "cross_contextual_attention" else skips, skips)


def divisor(options: Options) -> tuple[int, int, int]:
    return options.img_size, options.img_size, 1


def context(options: Options) -> int:
    return 0


def build(options: Options, *, in_channels: int, out_channels: int) -> nn.Module:
    """Freshly initialised network; one image channel is repeated to three."""
    return AttSwinUnet(options, in_channels, out_channels).apply(initialise)


def adapt(state: dict[str, Tensor], options: Options) -> dict[str, Tensor]:
    """The released network's weights; or those of Swin-Unet or of an ImageNet Swin Transformer, as first weights.

    Of the released ones those that nothing uses are left out, unless the network is `legacy`.
    """
    if any(key.startswith(("encoder.", "decoder.")) for key in state):
        unused = tuple(f"decoder.Crossvit_layer.{stage}." for stage in _uncrossed(options))
        dead = () if options.legacy else ("patch_embed.", "decoder.norm.", *unused)
        return {key: value for key, value in state.items() if not key.startswith(dead)}
    with torch.device("meta"):
        expected = AttSwinUnet(options.model_copy(update={"legacy": False}), COLOURS, 1).state_dict()
    swin = published(state, {key.partition(".")[2]: value for key, value in expected.items()})
    encoder = ("patch_embed.", "layers.", "norm.")
    return {("encoder." if key.startswith(encoder) else "decoder.") + key: value for key, value in swin.items()}


def _uncrossed(options: Options) -> range:
    """Encoder stages for which the released code makes a cross transformer that it does not run."""
    return range(options.crossed().start if options.mode == "cross_contextual_attention" else 0)


class CrossAttention(nn.Module):
    """Attention of one token (B, 1, dim) to itself and to other tokens (B, N, dim)."""

    def __init__(self, dim: int, drop: float):
        super().__init__()
        inner = CROSS_HEADS * CROSS_HEAD_DIM
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(drop))

    def forward(self, token: Tensor, others: Tensor) -> Tensor:
        query = self._heads(self.to_q(token))
        key, value = (self._heads(part) for part in self.to_kv(torch.cat([token, others], dim=1)).chunk(2, dim=-1))
        attention = (query @ key.transpose(-2, -1) * CROSS_HEAD_DIM**-0.5).softmax(dim=-1)
        return self.to_out((attention @ value).transpose(1, 2).flatten(2))

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (CROSS_HEADS, CROSS_HEAD_DIM)).transpose(1, 2)


class Normalised(nn.Module):
    """Cross attention of the normalised token; the other tokens are not normalised."""

    def __init__(self, dim: int, drop: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = CrossAttention(dim, drop)

    def forward(self, token: Tensor, others: Tensor) -> Tensor:
        return self.fn(self.norm(token), others)


class Residual(nn.Module):
    """The token plus what it learns of the others."""

    def __init__(self, dim: int, drop: float):
        super().__init__()
        self.fn = Normalised(dim, drop)

    def forward(self, token: Tensor, others: Tensor) -> Tensor:
        return token + self.fn(token, others)


class CrossTransformer(nn.Module):
    """Lets the mean token of each of two maps look at the other map, and puts it in the place of the first token.

    All other tokens stay as they are. Index 0 of each of `layers` belongs to the first map, 1 to the second.
    """

    def __init__(self, dim: int, drop: float = 0):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Residual(dim, drop), Residual(dim, drop)]) for _ in range(CROSS_DEPTH)
        )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, dim) of two maps -> the same shapes."""
        first_mean, second_mean = first.mean(dim=1, keepdim=True), second.mean(dim=1, keepdim=True)
        first_rest, second_rest = first[:, 1:], second[:, 1:]
        for layer in self.layers:
            of_first, of_second = layer.children()
            first_mean, second_mean = of_first(first_mean, second_rest), of_second(second_mean, first_rest)
        return torch.cat([first_mean, first_rest], dim=1), torch.cat([second_mean, second_rest], dim=1)


class Encoder(nn.Module):
    """Pictures -> the coarsest map, the map that enters each stage, the attention that each stage ends with."""

    def __init__(self, options: Options, in_channels: int):
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, options.embed_dim, options.patch_size)
        self.pos_drop = nn.Dropout(options.drop_rate)
        self.layers = encoder_stages(options)
        self.norm = nn.LayerNorm(options.embed_dim * 2 ** (len(options.depths) - 1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        x = self.pos_drop(self.patch_embed(x))
        entering, attentions = [], []
        for stage in self.layers:
            entering.append(x)
            x, attention = stage(x)
            attentions.append(attention)
        return self.norm(x), entering, attentions


class Decoder(nn.Module):
    """Index 0 of `layers_up` and `concat_back_dim` is the coarsest level, of `Crossvit_layer` the finest."""

    def __init__(self, options: Options, out_channels: int):
        super().__init__()
        self.options = options
        dim, skips = options.embed_dim, len(options.depths) - 1
        self.layers_up = decoder_stages(options)
        self.concat_back_dim = skip_reducers(options)
        self.Crossvit_layer = nn.ModuleList()
        if options.mode == "cross_contextual_attention":
            for stage in range(skips):
                wanted = options.legacy or stage in options.crossed()
                self.Crossvit_layer.append(
                    CrossTransformer(dim * 2**stage, options.drop_rate) if wanted else nn.Identity()
                )
        if options.legacy:
            self.norm = nn.LayerNorm(dim * 2**skips)
        self.norm_up = nn.LayerNorm(dim)
        self.up = PatchExpand(dim, dim, options.patch_size)
        self.output = nn.Conv2d(dim, out_channels, 1, bias=False)

    def forward(self, x: Tensor, entering: list[Tensor], attentions: list[Tensor]) -> Tensor:
        x = self.layers_up[0](x)
        for level in range(1, len(self.layers_up)):
            stage = len(self.layers_up) - 1 - level
            x = self._join(x, entering[stage], stage, self.concat_back_dim[level])
            x, _ = self.layers_up[level](x, self._merge(attentions[stage]))
        return self.output(self.up(self.norm_up(x)).permute(0, 3, 1, 2))

    def _join(self, x: Tensor, skip: Tensor, stage: int, reduce: nn.Module) -> Tensor:
        if stage in self.options.crossed():
            first, second = self.Crossvit_layer[stage](x.flatten(1, 2), skip.flatten(1, 2))
            return reduce(torch.cat([first, second], dim=-1)).view_as(x)
        x = reduce(torch.cat([x, skip], dim=-1))
        if self.options.legacy and self.options.spatial_attention and self.options.mode == "swin":
            x = reduce(torch.cat([x, skip], dim=-1))
        return x

    def _merge(self, encoder: Tensor) -> Merge | None:
        if self.options.legacy or not self.options.spatial_attention:
            return None
        return encoder.add if self.options.operation == "+" else encoder.mul


class AttSwinUnet(nn.Module):
    """Logits (B, N, H, W) for pictures (B, C, H, W)."""

    def __init__(self, options: Options, in_channels: int, out_channels: int):
        super().__init__()
        self.options, self.grey = options, in_channels == 1
        self.encoder = Encoder(options, COLOURS if self.grey else in_channels)
        self.decoder = Decoder(options, out_channels)
        if options.legacy:
            self.patch_embed = PatchEmbed(options.patch_size, options.embed_dim, options.patch_size)
            unused = [self.decoder.Crossvit_layer[stage] for stage in _uncrossed(options)]
            for part in (self.patch_embed, self.decoder.norm, *unused):
                part.requires_grad_(False)

    @flat
    def forward(self, x: Tensor) -> Tensor:
        refuse_other_sizes(x, self.options, "att_swin_unet")
        return self.decoder(*self.encoder(x.expand(-1, COLOURS, -1, -1) if self.grey else x))
