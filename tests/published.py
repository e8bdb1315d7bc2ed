"""Weights files as others publish them, around the weights of a tiny network; and the command that brings them in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medseg import models
from tests import tiny

State = dict[str, Tensor]
OPTIONS = {"size": "S", "width": 2, "pools": [[2, 2, 2], [2, 2, 2]]}
"""Of the tiny STU-Net; its patches are multiples of 4."""


def stunet(*, channels: int = 1, classes: int = 3, seed: int = 0) -> nn.Module:
    """A tiny STU-Net with random weights."""
    torch.manual_seed(seed)
    return models.build("stunet", in_channels=channels, out_channels=classes, **OPTIONS).eval()


def nnunet_v1(path: Path, state: State) -> Path:
    """nnU-Net v1: history as numpy scalars, under the module names of numpy 1; DataParallel's prefix."""
    history = [np.float64(0.5), np.mean([0.25, 0.75])]
    content = {
        "epoch": 4000,
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
        "lr_scheduler_state_dict": None,
        "plot_stuff": (history, history, [], [np.array([0.5, 0.75]), np.float32(1)]),
        "best_stuff": (history[0], history[1], None),
        "amp_grad_scaler": {"scale": 65536.0},
    }
    torch.save(content, path)
    return _as_numpy_1(path)


def nnunet_v2(path: Path, state: State) -> Path:
    """nnU-Net v2."""
    content = {
        "network_weights": state,
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class_or_region": [[np.float32(0.25)]]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {"plans": {"dataset_name": "x"}, "device": torch.device("cuda"), "fold": 0},
        "trainer_name": "STUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(content, path)
    return path


def monai(path: Path, state: State) -> Path:
    """The released Swin UNETR code."""
    torch.save({"epoch": 299, "best_acc": 0.9, "state_dict": state}, path)
    return path


def monai_zip(path: Path, state: State) -> Path:
    """The same as it can be downloaded: a zip with a folder in it."""
    inner = monai(path.with_name("model.pt"), state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "fold1_f48/model.pt")
        archive.writestr("fold1_f48/README.txt", "how to use it")
    inner.unlink()
    return path


def bare(path: Path, state: State) -> Path:
    """The state_dict alone, saved in the old torch format."""
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def safetensors(path: Path, state: State) -> Path:
    path = path.with_suffix(".safetensors")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


LAYOUTS: tuple[Callable[[Path, State], Path], ...] = (nnunet_v1, nnunet_v2, monai, monai_zip, bare, safetensors)


def swin_encoder(state: State) -> State:
    """The names of `model_swinvit.pt` for the encoder of a Swin UNETR, and a head of the self-supervision beside."""
    encoder = {
        "module." + name.removeprefix("swinViT.").replace("mlp.linear", "mlp.fc"): tensor
        for name, tensor in state.items()
        if name.startswith("swinViT.")
    }
    return encoder | {"module.rotation_head.weight": torch.zeros(4, 8)}


def _as_numpy_1(path: Path) -> Path:
    """Rename numpy's modules in the pickle of a torch file."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            archive.writestr(name, content.replace(b"cnumpy._core.", b"cnumpy.core."))
    return path


STUNET = [f"model.{name}={json.dumps(value)}" for name, value in OPTIONS.items()]
PREPARE = [
    "prepare.spacing_mm=native",
    "prepare.patch=[32,32,32]",
    "prepare.normalisation=[{kind: zscore}]",
    "prepare.orientation=RAS",
]


def labels(folder: Path, text: str = "{left: 1, right: 2}") -> Path:
    path = folder / "labels.yaml"
    path.write_text(f"labels: {text}\n", encoding="utf-8")
    return path


def bring_in(file: Path, name: str = "stunet", *words: object, settings: list[str] | None = None) -> tiny.Said:
    """The command, into <folder of the file>/run."""
    out = file.parent / "run"
    given = [*STUNET, *PREPARE] if settings is None else settings
    sets = [word for setting in given for word in ("--set", setting)]
    if "--labels" not in words and "--partial" not in words and name == "stunet":
        words = (*words, "--labels", labels(file.parent))
    return tiny.medseg_command("import-weights", file, "--as", name, "--out", out, *sets, *words)


def refused(said: tiny.Said, folder: Path) -> str:
    """What was said by a command that must leave nothing behind."""
    assert said.code == 2 and not (folder / "run").exists() and not list(folder.glob(".partial*"))
    assert "Traceback" not in said.err
    return said.err
