"""Network parts that several models share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medseg.plan import Sizes
from medseg.refusal import Refusal

SLOPE = 0.01
"""Negative slope of every LeakyReLU."""
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""What torch calls channels innermost, by the number of axes of (B, C, ...)."""


def recomputed(part: Callable[..., Any], *inputs: Any, when: bool) -> Any:
    """What a part of a network answers; `when` it is trained so, with its maps computed again in the backward pass in
    place of being kept."""
    if when and torch.is_grad_enabled():
        return checkpoint(part, *inputs, use_reentrant=False)
    return part(*inputs)


class InstanceNorm(nn.GroupNorm):
    """Instance normalisation written as one group per channel: equal numbers and state_dict keys.

    `nn.InstanceNorm3d` is several times slower on CPUs in channels_last layout and raises on a map of 1 x 1 x 1 voxels,
    which here becomes the bias. On CUDA, autocast runs group_norm in float32 but instance_norm in half precision.
    """

    def __init__(self, channels: int, *, affine: bool = True, eps: float = 1e-5):
        super().__init__(channels, channels, eps=eps, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and x[0, 0].numel() > 1:
            if torch.compiler.is_compiling():
                return self._spelled_out(x)
            if channels_innermost(x) and not torch.is_grad_enabled():
                return self._of_each(x)
            return nn.functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        # Not `nn.functional.group_norm`, which refuses one case of one voxel.
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def _spelled_out(self, x: Tensor) -> Tensor:
        """In sums and products, for a compiler to fuse with what is around them; it would have the channels outermost
        otherwise."""
        variance, mean = torch.var_mean(x.float(), dim=tuple(range(2, x.ndim)), correction=0, keepdim=True)
        normed = (x.float() - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            along = (-1, *[1] * (x.ndim - 2))
            normed = normed * self.weight.view(along) + self.bias.view(along)
        return normed.to(x.dtype)

    def _of_each(self, x: Tensor) -> Tensor:
        """By the kernels of batch normalisation, one image after another: torch's own for instances have the channels
        outermost, and turn each map round before and after. Sums are float32. There is no gradient."""
        normed = []
        for image in x.split(1):
            mean, inverse = torch.batch_norm_stats(image, self.eps)
            normed.append(torch.batch_norm_elemt(image, self.weight, self.bias, mean, inverse, self.eps))
        return normed[0] if len(normed) == 1 else torch.cat(normed)


def channels_innermost(x: Tensor) -> bool:
    """Whether maps (B, C, ...) have their channels innermost in memory."""
    return x.ndim in LAYOUTS and x.shape[1] > 1 and x.is_contiguous(memory_format=LAYOUTS[x.ndim])


def replace_instance_norms(module: nn.Module) -> None:
    """Put `InstanceNorm` in the place of every `nn.InstanceNorm3d` inside `module` that keeps no running statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.InstanceNorm3d) and not child.track_running_stats:
            setattr(module, name, InstanceNorm(child.num_features, affine=child.affine, eps=child.eps))
        else:
            replace_instance_norms(child)


def half(kernel: Sizes) -> Sizes:
    """Padding that keeps the size of a map under an odd kernel."""
    return kernel[0] // 2, kernel[1] // 2, kernel[2] // 2


def refuse_one_value(network: nn.Module, x: Tensor, strides: Sequence[int]) -> None:
    """For networks with batch normalisation, which cannot train where a channel has one value in the whole batch.

    Args:
        x: input (B, C, ...).
        strides: of the coarsest map, one an axis of an image; its sides are rounded up.

    Raises:
        Refusal: in training, for one image whose coarsest map is one value.
    """
    coarsest = math.prod(-(-side // stride) for side, stride in zip(x.shape[2:], strides, strict=True))
    if network.training and len(x) * coarsest == 1:
        raise Refusal(
            "training batch",
            found=f"one image of {' x '.join(map(str, x.shape[2:]))}, which the network shrinks to a single value",
            needed="several values for batch normalisation",
            remedy=f"use a batch of 2 or more, or images larger than {' x '.join(map(str, strides))}",
        )


class ResidualBlock(nn.Module):
    """conv - norm - LeakyReLU - conv - norm, plus the input, LeakyReLU.

    The shortcut is the identity, or a convolution with kernel 1 (no norm) where `project` says so.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: Sizes = (1, 1, 1),
        kernel: Sizes = (3, 3, 3),
        project: bool = False,
    ):
        super().__init__()
        padding = half(kernel)
        self.conv1 = nn.Conv3d(in_channels, out_channels, kernel, stride, padding)
        self.norm1 = InstanceNorm(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel, 1, padding)
        self.norm2 = InstanceNorm(out_channels)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)
        if project:
            self.conv3 = nn.Conv3d(in_channels, out_channels, 1, stride)
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.act(y + (self.conv3(x) if self.project else x))


class Upsample(nn.Module):
    """Nearest-neighbour enlargement by `scale` and a convolution with kernel 1.

    The two commute exactly, so the convolution runs first, on the smaller map.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: Sizes):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 1)
        self.scale = tuple(float(factor) for factor in scale)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(x), scale_factor=self.scale, mode="nearest")


def initialise_he(module: nn.Module) -> None:
    """For `Module.apply`: He normal weights for the LeakyReLU slope, zero biases (He et al. 2015, arXiv:1502.01852)."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def flat(forward: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Any]:
    """Decorator for the `forward` of a 2-D network: it then also takes a stack of slices (B, C, i, j, k).

    The network sees (B, C * k, j, i): the k slices of each channel one after another; rows (j) are its height, columns
    (i) its width, as pictures are shown. Its maps (B, N, j, i), one or several, come back as (B, N, i, j, 1); its
    scores (B, N) as they are. An input of four axes is (B, C, H, W) and passes straight through.
    """

    def restored(output: Tensor) -> Tensor:
        return output.transpose(2, 3).unsqueeze(4) if output.ndim == 4 else output

    @wraps(forward)
    def either(self: Any, x: Tensor) -> Any:
        if x.ndim == 4:
            return forward(self, x)
        outputs = forward(self, x.permute(0, 1, 4, 3, 2).flatten(1, 2))
        return restored(outputs) if isinstance(outputs, Tensor) else tuple(restored(output) for output in outputs)

    return either
