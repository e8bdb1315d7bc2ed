"""What a training step computes of the samples that it takes at once: network, loss, and how well the answers fit; by
PyTorch as it is, or by its compiler."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import lightning_fabric
import torch
from torch import Tensor, nn

from medseg.config import TrainSettings
from medseg.engine import watch
from medseg.engine.forward import innermost
from medseg.engine.networks import answers
from medseg.labels import LabelTable
from medseg.losses import Loss
from medseg.refusal import Refusal

LONG = 1000
"""Steps from which auto compiles: that takes a minute or two, and saves some hundredths of a second a step."""


class Objective(nn.Module):
    """(images (B, C, i, j, k), targets) -> loss, and the counts of `watch.overlaps` for the finest answer."""

    def __init__(self, network: nn.Module, loss: Loss, table: LabelTable):
        super().__init__()
        self.network = network
        self._loss, self._table = loss, table

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        outputs = answers(self.network(images))
        with torch.autocast(images.device.type, enabled=False):  # losses compute in float32
            return self._loss(outputs, targets), watch.overlaps(outputs[0].detach(), targets, self._table)


class Compiled(nn.Module):
    """An objective whose network and loss PyTorch's compiler fuses; a twin of the network computes, with its weights.

    Args:
        insist: refuse where the compiler fails; otherwise that is said, and PyTorch computes as it is.
    """

    def __init__(self, objective: Objective, announce: Callable[[str], None], *, insist: bool):
        from medseg.engine.innermost import by_operator

        super().__init__()
        objective.network = by_operator(objective.network)
        self.objective = objective
        self._compute: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = torch.compile(
            objective.forward, dynamic=False
        )
        self._announce, self._insist = announce, insist

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self._compute(innermost(images), targets)
        except TorchDynamoException as error:
            said = " ".join(str(error).split())[:300].rstrip(".")
            if self._insist:
                raise Refusal(
                    "train.compile",
                    found=f"true, and: {said}",
                    needed="a C++ compiler (for a GPU, Triton), and a network and loss that it takes",
                    remedy="set train.compile=false",
                ) from error
            self._announce(f"train.compile: the compiler failed, and training goes on without it ({said})")
            self._compute = self.objective.forward
        return self._compute(images, targets)


class Computing(NamedTuple):
    """An objective that is ready to be trained.

    Attributes:
        whole: what the strategy wrapped; its parameters are the network's.
        objective: what is called.
        network: whose modules compute, and are told whether they train.
    """

    whole: nn.Module
    objective: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    network: nn.Module


def set_up(
    fabric: lightning_fabric.Fabric,
    network: nn.Module,
    loss: Loss,
    table: LabelTable,
    settings: TrainSettings,
    announce: Callable[[str], None],
) -> Computing:
    """Bring a network to the devices that train it.

    Raises:
        Refusal: settings that do not go together.
    """
    if not compiles(settings, fabric.device):
        whole = fabric.setup_module(network)
        return Computing(whole, Objective(whole, loss, table), network)
    announce("train.compile: the first step takes a minute or two, in which kernels for this network are made")
    network.to(fabric.device)  # before it has a twin, whose tables would be moved apart from its own
    compiled = Compiled(Objective(network, loss, table), announce, insist=settings.compile is True)
    whole = fabric.setup_module(compiled)
    return Computing(whole, whole, compiled.objective.network)


def compiles(settings: TrainSettings, device: torch.device) -> bool:
    """Whether `train.compile` asks for the compiler. A compiled network differs by rounding, so this must not hang on
    what a resumed run has still to do.

    Raises:
        Refusal: it cannot be combined with other settings.
    """
    if settings.compile is True:
        for key, obstacle in (
            ("deterministic", settings.deterministic and device.type != "cpu"),
            ("shard", settings.shard),
        ):
            if obstacle:
                raise Refusal(
                    "train.compile",
                    found=f"true, with train.{key}",
                    needed="one of the two",
                    remedy=f"leave train.compile out, or set train.{key}=false",
                )
        return True
    if settings.compile is False or device.type != "cuda" or settings.deterministic or settings.shard:
        return False
    return settings.epochs * settings.steps >= LONG and importlib.util.find_spec("triton") is not None
