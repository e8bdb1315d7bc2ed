"""Parts of shifted-window transformers, on numbers that one can check."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.swin_layers import (
    FORBIDDEN,
    DropPath,
    PatchExpand,
    PatchMerging,
    SwinBlock,
    WindowAttention,
    shifted,
    unwindows,
    windows,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def counting(height: int, width: int) -> torch.Tensor:
    """(1, H, W, 1): 0, 1, 2, ... row by row."""
    return torch.arange(float(height * width)).view(1, height, width, 1)


def test_windows_run_row_by_row_and_back():
    x = counting(4, 6)
    cut = windows(x, 2)
    assert cut.shape == (6, 4, 1)
    assert cut[0].flatten().tolist() == [0, 1, 6, 7]
    assert cut[1].flatten().tolist() == [2, 3, 8, 9]
    assert cut[3].flatten().tolist() == [12, 13, 18, 19]
    assert torch.equal(unwindows(cut, 2, 4, 6), x)


def test_patch_expand_puts_rows_before_columns_before_channels():
    expand = PatchExpand(8, 2)
    nn.init.eye_(expand.expand.weight)
    expand.norm = nn.Identity()
    enlarged = expand(torch.arange(8.0).view(1, 1, 1, 8))
    assert enlarged.tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]
    # Pixel shuffle, which takes the channels as (channel, row, column), would have put 0 and 4 into the first pixel.
    assert nn.functional.pixel_shuffle(torch.arange(8.0).view(1, 8, 1, 1), 2)[0, :, 0, 0].tolist() == [0, 4]


def test_patch_expand_keeps_tokens_where_they_are():
    expand = PatchExpand(16, 1, scale=4)
    nn.init.eye_(expand.expand.weight)
    expand.norm = nn.Identity()
    x = torch.zeros(1, 2, 3, 16)
    x[0, 1, 2, 4 * 3 + 1] = 1  # row 3 and column 1 inside the token at row 1, column 2
    assert expand(x).nonzero().tolist() == [[0, 1 * 4 + 3, 2 * 4 + 1, 0]]


def test_patch_merging_joins_down_before_right():
    merging = PatchMerging(1)
    merging.norm, merging.reduction = nn.Identity(), nn.Identity()
    assert merging(counting(2, 4)).tolist() == [[[[0, 4, 1, 5], [2, 6, 3, 7]]]]


def test_relative_positions_of_a_window_of_two():
    index = WindowAttention(4, 2, 2).relative_position_index
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_a_bias_draws_attention_to_a_relative_position():
    attention = WindowAttention(4, 2, 2)
    with torch.no_grad():
        attention.relative_position_bias_table[7] = 50  # one row up
    _, matrix = attention(noise(1, 4, 4))
    assert matrix[0, 0, 2].tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert matrix[0, 0, 3].tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)


def test_merged_attention_weights_the_values_and_is_not_what_comes_back():
    attention = WindowAttention(4, 2, 2)
    nn.init.zeros_(attention.proj.bias)
    x = noise(3, 4, 4)
    plain, matrix = attention(x)
    doubled, same = attention(x, merge=matrix.add)
    gone, _ = attention(x, merge=torch.zeros_like(matrix).mul)
    torch.testing.assert_close(doubled, 2 * plain)
    assert gone.abs().max() == 0
    torch.testing.assert_close(matrix.sum(-1), torch.ones(3, 2, 4))
    assert torch.equal(same, matrix)


def test_the_shift_keeps_tokens_apart_that_only_the_roll_made_neighbours():
    """4 x 4 tokens rolled by 1: the last window holds the old corner, edges and inside, one token each."""
    rows, columns, mask = shifted(4, 4, 2, 1)
    assert (rows, columns) == (1, 1)
    allowed = (mask == 0).int()
    assert allowed[0].tolist() == [[1] * 4] * 4  # the middle of the map is whole
    assert allowed[1].tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]] * 2  # left and right edge meet: columns apart
    assert allowed[2].tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2  # top and bottom edge meet: rows apart
    assert allowed[3].tolist() == torch.eye(4).int().tolist()
    assert mask.min() == FORBIDDEN


def test_a_map_of_one_window_is_not_shifted():
    assert shifted(7, 7, 7, 3) == (0, 0, None)
    rows, columns, _ = shifted(7, 14, 7, 3)
    assert (rows, columns) == (0, 3)


@pytest.mark.parametrize("amount", [0, 3])
def test_padding_reaches_no_token_of_the_map(amount):
    block = SwinBlock(8, 2, 7).eval()
    nn.init.normal_(block.attn.relative_position_bias_table)
    empty, full = torch.zeros(1, 14, 14, 8), noise(1, 14, 14, 8)
    empty[:, :9, :10] = full[:, :9, :10]
    shift = shifted(9, 10, 7, amount)
    first, second = (block(x, shift=shift)[0] for x in (empty, full))
    torch.testing.assert_close(first[:, :9, :10], second[:, :9, :10])
    assert (first[:, 9:] - second[:, 9:]).abs().max() > 0.1


def test_drop_path_keeps_the_mean_and_is_off_in_evaluation():
    drop, x = DropPath(0.25), torch.ones(4000, 1, 1)
    torch.manual_seed(0)
    assert drop(x).unique().tolist() == pytest.approx([0, 4 / 3])
    assert drop(x).mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)
