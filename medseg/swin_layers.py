"""Parts of shifted-window transformers that the 2-D networks share. Maps are (B, H, W, C) inside, channels last.

Sources: Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv:2103.14030;
`PatchExpand`: Cao et al. 2021, "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation",
arXiv:2105.05537. Parameters are named as in the published weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

FORBIDDEN = -100.0
"""Added to the logit of two tokens that may not attend to each other."""

Merge = Callable[[Tensor], Tensor]
"""Changes an attention matrix (B * windows, heads, N, N) before it meets the values."""


class Shift(NamedTuple):
    """How far a map is rolled before it is cut into windows, and what may not attend to what then."""

    rows: int
    columns: int
    mask: Tensor | None
    """(windows, N, N), 0 or FORBIDDEN."""


def windows(x: Tensor, side: int) -> Tensor:
    """Maps (B, H, W, C) as windows (B * windows, side * side, C), row by row."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // side, side, width // side, side, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, channels)


def unwindows(tokens: Tensor, side: int, height: int, width: int) -> Tensor:
    """The way back from `windows`."""
    x = tokens.view(-1, height // side, width // side, side, side, tokens.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, tokens.shape[-1])


def shifted(height: int, width: int, side: int, amount: int, device: torch.device | None = None) -> Shift:
    """The shift by `amount` (0: none) of a map that was padded to full windows at its bottom and right.

    Tokens that only the roll made neighbours may not attend to each other, nor tokens of the map to padding. An axis of
    one window is not rolled, since every token sees every other one there.
    """
    padded_height, padded_width = (-(-length // side) * side for length in (height, width))
    rows, columns = (amount if length > side else 0 for length in (padded_height, padded_width))
    if not rows and not columns and (padded_height, padded_width) == (height, width):
        return Shift(0, 0, None)
    padding = torch.ones(padded_height, padded_width, dtype=torch.long, device=device)
    padding[:height, :width] = 0
    down, right = _bands(padded_height, side, rows, device), _bands(padded_width, side, columns, device)
    regions = 6 * down.unsqueeze(1) + 2 * right + padding.roll((-rows, -columns), (0, 1))
    numbers = windows(regions[None, :, :, None], side).squeeze(-1)
    return Shift(rows, columns, torch.where(numbers.unsqueeze(1) == numbers.unsqueeze(2), 0.0, FORBIDDEN))


def _bands(length: int, side: int, shift: int, device: torch.device | None) -> Tensor:
    """Region of each place of one axis after the roll: the whole windows 0, the two parts of the last one 1 and 2."""
    place = torch.arange(length, device=device)
    return (place >= length - side).long() + (place >= length - shift).long() if shift else torch.zeros_like(place)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): in training leaves a sample's branch out at `rate`."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(len(x), *(1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * kept / (1 - self.rate)


class Perceptron(nn.Module):
    """Linear - GELU - Linear."""

    def __init__(self, dim: int, hidden: int, drop: float):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(nn.functional.gelu(self.fc1(x)))))


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows of `side` x `side` tokens, with a bias for each relative position."""

    relative_position_index: Tensor

    def __init__(
        self, dim: int, side: int, heads: int, *, qkv_bias: bool = True, attn_drop: float = 0, drop: float = 0
    ):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(drop)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
        offset = place.unsqueeze(1) - place.unsqueeze(0) + side - 1
        self.register_buffer("relative_position_index", offset[..., 0] * (2 * side - 1) + offset[..., 1])

    def forward(self, x: Tensor, mask: Tensor | None = None, merge: Merge | None = None) -> tuple[Tensor, Tensor]:
        """Windows (B * windows, N, C) -> the same shape, and their attention (B * windows, heads, N, N).

        The attention is what the softmax gave; `merge` changes only what the values are weighted with.
        """
        count, tokens, dim = x.shape
        query, key, value = self.qkv(x).view(count, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        logits = (query * (dim // self.heads) ** -0.5) @ key.transpose(-2, -1)
        logits = logits + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            logits = (logits.view(-1, len(mask), self.heads, tokens, tokens) + mask.unsqueeze(1)).view_as(logits)
        attention = logits.softmax(dim=-1)
        weights = self.attn_drop(attention if merge is None else merge(attention))
        mixed = (weights @ value).transpose(1, 2).reshape(count, tokens, dim)
        return self.proj_drop(self.proj(mixed)), attention


class SwinBlock(nn.Module):
    """Window attention and a perceptron, each added to its input.

    Args:
        dim: channels.
        heads: of the attention.
        side: of a window, in tokens; the map's height and width must be multiples of it.
        shift: tokens by which the windows are shifted, or 0.
        resolution: tokens a side of a square map of fixed size. None: any size; `forward` is then told the shift.
    """

    attn_mask: Tensor | None

    def __init__(
        self,
        dim: int,
        heads: int,
        side: int,
        shift: int = 0,
        *,
        resolution: int | None = None,
        mlp_ratio: float = 4,
        qkv_bias: bool = True,
        drop: float = 0,
        attn_drop: float = 0,
        drop_path: float = 0,
    ):
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, side, heads, qkv_bias=qkv_bias, attn_drop=attn_drop, drop=drop)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Perceptron(dim, int(dim * mlp_ratio), drop)
        self.register_buffer("attn_mask", shifted(resolution, resolution, side, shift).mask if resolution else None)

    def forward(self, x: Tensor, merge: Merge | None = None, shift: Shift | None = None) -> tuple[Tensor, Tensor]:
        """Maps (B, H, W, C) -> the same shape, and the attention (B * windows, heads, N, N)."""
        shift = shift or Shift(self.shift, self.shift, self.attn_mask)
        rolled = torch.roll(self.norm1(x), (-shift.rows, -shift.columns), (1, 2))
        tokens, attention = self.attn(windows(rolled, self.side), shift.mask, merge)
        mixed = unwindows(tokens, self.side, x.shape[1], x.shape[2])
        x = x + self.drop_path(torch.roll(mixed, (shift.rows, shift.columns), (1, 2)))
        return x + self.drop_path(self.mlp(self.norm2(x))), attention


class PatchEmbed(nn.Module):
    """Pictures (B, C, H, W) -> one token for each patch, (B, H / patch, W / patch, dim)."""

    def __init__(self, in_channels: int, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch, patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Half the side, twice the channels: (B, H, W, C) -> (B, H/2, W/2, 2C). The first axis runs fastest."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        neighbours = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(neighbours, dim=-1)))


class PatchExpand(nn.Module):
    """`scale` times the side: (B, H, W, dim) -> (B, H * scale, W * scale, out_dim).

    The channels of the enlarged token are (row, column, channel), row slowest; pixel shuffle would have them last.
    """

    def __init__(self, dim: int, out_dim: int, scale: int = 2):
        super().__init__()
        self.scale = scale
        self.expand = nn.Linear(dim, scale * scale * out_dim, bias=False)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width = x.shape[:3]
        x = self.expand(x).view(batch, height, width, self.scale, self.scale, -1).transpose(2, 3)
        return self.norm(x.reshape(batch, height * self.scale, width * self.scale, -1))


def initialise(module: nn.Module) -> None:
    """For `Module.apply`: truncated normal weights of Linear layers and of the position biases, as published."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
