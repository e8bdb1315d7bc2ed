"""Encoder and mirrored decoder of Swin-Unet, which its relatives share; and the way of published weights into them.

Source: Cao et al. 2021, "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", arXiv:2105.05537.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from torch import Tensor, nn

from medseg.layers import recomputed
from medseg.refusal import Refusal
from medseg.swin_layers import Merge, PatchExpand, PatchMerging, SwinBlock

PREFIX = "swin_unet."
"""Of every key in published Swin-Unet weights."""
FIRST = "layers.0.blocks.0.attn.qkv.weight"
"""By its name a Swin Transformer is known, by its shape its width."""


class Pyramid(Protocol):
    """The options that fix a Swin encoder and the decoder that mirrors it."""

    img_size: int
    patch_size: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    mlp_ratio: float
    qkv_bias: bool
    drop_rate: float
    attn_drop_rate: float
    drop_path_rate: float
    checkpointing: bool


class SwinStage(nn.Module):
    """Blocks of one resolution, then a change of resolution or none."""

    def __init__(
        self,
        blocks: Iterable[SwinBlock],
        *,
        downsample: PatchMerging | None = None,
        upsample: PatchExpand | None = None,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample, self.upsample = downsample, upsample
        self.checkpointing = checkpointing

    def forward(self, x: Tensor, merge: Merge | None = None) -> tuple[Tensor, Tensor]:
        """Maps (B, H, W, C) -> maps of the next resolution, and the attention of the last block."""
        attention = x
        for block in self.blocks:
            x, attention = recomputed(block, x, merge, when=self.checkpointing and self.training)
        change = self.downsample or self.upsample
        return (change(x) if change else x), attention


def blocks(options: Pyramid, stage: int) -> Iterator[SwinBlock]:
    """Fresh blocks of encoder stage `stage`, which are also those of the decoder stage of that resolution.

    Where the map is no larger than a window there is one window, and nothing is shifted.
    """
    resolution = options.img_size // options.patch_size // 2**stage
    side = min(options.window_size, resolution)
    first, last = sum(options.depths[:stage]), max(sum(options.depths) - 1, 1)
    for number in range(options.depths[stage]):
        yield SwinBlock(
            options.embed_dim * 2**stage,
            options.num_heads[stage],
            side,
            side // 2 if number % 2 and resolution > side else 0,
            resolution=resolution,
            mlp_ratio=options.mlp_ratio,
            qkv_bias=options.qkv_bias,
            drop=options.drop_rate,
            attn_drop=options.attn_drop_rate,
            drop_path=options.drop_path_rate * (first + number) / last,
        )


def encoder_stages(options: Pyramid) -> nn.ModuleList:
    """Stage i works at 1 / (patch * 2^i) of the picture's side and ends by halving it, save the last one."""
    stages = nn.ModuleList()
    for stage in range(len(options.depths)):
        merging = PatchMerging(options.embed_dim * 2**stage) if stage < len(options.depths) - 1 else None
        stages.append(SwinStage(blocks(options, stage), downsample=merging, checkpointing=options.checkpointing))
    return stages


def decoder_stages(options: Pyramid) -> nn.ModuleList:
    """Number 0 only doubles the coarsest map; number k has the blocks of encoder stage n - 1 - k and doubles its map,
    save the last one."""
    coarsest = len(options.depths) - 1
    stages = nn.ModuleList([PatchExpand(options.embed_dim * 2**coarsest, options.embed_dim * 2 ** (coarsest - 1))])
    for stage in reversed(range(coarsest)):
        dim = options.embed_dim * 2**stage
        expand = PatchExpand(dim, dim // 2) if stage else None
        stages.append(SwinStage(blocks(options, stage), upsample=expand, checkpointing=options.checkpointing))
    return stages


def skip_reducers(options: Pyramid) -> nn.ModuleList:
    """Number k brings decoder stage k's map and its skip, joined, back to one's channels; number 0 does nothing."""
    dims = [options.embed_dim * 2**stage for stage in reversed(range(len(options.depths) - 1))]
    return nn.ModuleList([nn.Identity(), *(nn.Linear(2 * dim, dim) for dim in dims)])


def step(options: Pyramid) -> int:
    """Pixels a side of one token of the coarsest map."""
    return options.patch_size * 2 ** (len(options.depths) - 1)


def check(options: Pyramid) -> None:
    """Raises ValueError (which pydantic reports) where the sizes do not fit one another."""
    depths, heads = options.depths, options.num_heads
    if len(heads) != len(depths):
        raise ValueError(f"num_heads: {len(depths)} stages need {len(depths)} numbers, not {len(heads)}")
    for stage, count in enumerate(heads):
        if options.embed_dim * 2**stage % count:
            raise ValueError(f"num_heads: {options.embed_dim * 2**stage} channels do not divide among {count} heads")
    if options.img_size % step(options):
        raise ValueError(f"img_size: {options.img_size} is not a multiple of {step(options)} (patch and halvings)")
    for stage in range(len(depths)):
        side = options.img_size // options.patch_size // 2**stage
        if side > options.window_size and side % options.window_size:
            raise ValueError(
                f"window_size: windows of {options.window_size} do not fill the {side} x {side} tokens of stage {stage}"
            )


def refuse_other_sizes(x: Tensor, options: Pyramid, network: str) -> None:
    """Raises Refusal if the picture (B, C, H, W) has not the network's fixed size."""
    height, width = x.shape[-2:]
    if height != options.img_size or width != options.img_size:
        raise Refusal(
            f"model {network}",
            found=f"a picture of {height} x {width} pixels",
            needed=f"{options.img_size} x {options.img_size}, the size that it was built for",
            remedy=f"make the patch that large, or set the model's img_size (a multiple of {step(options)})",
        )


def published(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of Swin-Unet, from those of Swin-Unet or of a Swin Transformer trained on ImageNet.

    Those of Swin-Unet only lose the prefix of the published file. Of an ImageNet network, which has no decoder, each
    encoder stage also becomes the first weights of the decoder stage of its resolution; what has no place or another
    shape is left out. Anything else, an ImageNet network of another width too, comes back as it is.

    Args:
        state: the file's weights.
        expected: a network's own state_dict under the names of Swin-Unet; only names and shapes are read.
    """
    if any(key.startswith(PREFIX) for key in state):
        return {key.removeprefix(PREFIX): value for key, value in state.items()}
    has_decoder = any(key.startswith("layers_up.") for key in state)
    if has_decoder or FIRST not in state or state[FIRST].shape != expected[FIRST].shape:
        return dict(state)
    coarsest = max(int(key.split(".")[1]) for key in expected if key.startswith("layers."))
    copies = {}
    for key, value in state.items():
        if key.startswith("layers."):
            _, stage, rest = key.split(".", 2)
            copies[f"layers_up.{coarsest - int(stage)}.{rest}"] = value
    return {
        key: value
        for key, value in {**state, **copies}.items()
        if key in expected and expected[key].shape == value.shape
    }
