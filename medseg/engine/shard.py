"""A network, its gradients and its optimiser's state divided over devices, for what no single device holds.

This is fully sharded data parallelism (Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data
Parallel", arXiv:2304.11277), by torch's `fully_shard` through lightning-fabric. Each device keeps a part of every
weight, and gathers a unit's weights only while it computes with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

LARGEST = 1 / 8
"""Share of all weights above which a module is not gathered in one piece, but its children one by one."""


def strategy(devices: int) -> ModelParallelStrategy:
    """For `lightning_fabric.Fabric`; every device sees other patches, as without sharding."""
    return ModelParallelStrategy(_divide, data_parallel_size=devices, tensor_parallel_size=1)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor in one piece, on the CPU where it was divided. All processes must call it together."""
    return {name: value.full_tensor().cpu() if isinstance(value, DTensor) else value for name, value in tensors.items()}


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors into a network that may be divided."""
    own = network.state_dict()
    network.load_state_dict({name: _like(value, own.get(name)) for name, value in tensors.items()})


def moments(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors of an optimiser's state, by `<parameter>.<name>`, divided as its parameters are."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    return {name: _like(value, parameters[int(name.partition(".")[0])]) for name, value in tensors.items()}


def _like(value: Tensor, example: Tensor | None) -> Tensor:
    """A whole tensor divided as `example` is; itself, if that is not divided or of another shape (a counter)."""
    if isinstance(example, DTensor) and example.shape == value.shape:
        return distribute_tensor(value.to(example.device), example.device_mesh, example.placements)
    return value


def _divide(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    limit = LARGEST * _size(network)
    for unit in [*_units(network, limit), network]:
        fully_shard(unit, mesh=mesh["data_parallel"])
    return network


def _units(module: nn.Module, limit: float) -> Iterator[nn.Module]:
    """Modules below `module` that are gathered in one piece. A list of modules is none: it is never called, and
    gathering hangs on calls."""
    for child in module.children():
        called = type(child).forward is not nn.Module.forward
        if called and 0 < _size(child) <= limit:
            yield child
        else:
            yield from _units(child, limit)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
