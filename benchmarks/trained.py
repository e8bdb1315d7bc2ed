"""One set of weights for every program that is compared: trained by medseg on phantoms, written for nnU-Net as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import phantom
import torch
import yaml

from medseg import config
from medseg.engine import checkpoint
from medseg.engine import device as devices
from medseg.engine.run import Run
from medseg.engine.train import train
from medseg.refusal import Refusal

FEATURES = (16, 32, 64, 128)
PATCH = (96, 96, 96)
LEARNING_PATCH = (96, 96, 48)
"""Half of the patch of prediction, so that training takes minutes; as wide, because a patch without air and body both
tells nothing of HU once it is normalised."""
CASES = range(1, 7)
"""Seeds of the phantoms to train and validate on; the one that is timed has seed 0."""
EPOCHS, STEPS = 8, 60
RESAMPLING: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "default": (
        "resample_data_or_seg_to_shape",
        {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
    ),
    "torch": ("resample_torch_fornnunet", *({"is_seg": False, "force_separate_z": False},) * 2),
}
"""nnU-Net's two ways: the function, its arguments for images, those for logits."""


def recipe(folder: Path) -> config.Recipe:
    """Everything that is not nnU-Net's default here makes a few hundred steps enough."""
    precision = "bf16"
    try:
        devices.check_precision(torch.device("cpu"), precision, where="train.precision")
    except Refusal:
        precision = "32"
    data = {
        "name": "inference_benchmark",
        "dataset": {"name": "folder", "root": str(folder / "data"), "channels": []},
        "split": {"kind": "kfold", "folds": len(CASES)},
        "prepare": {
            "modalities": ["CT"],
            "spacing_mm": [1.0, 1.0, 1.0],
            "patch": list(LEARNING_PATCH),
            "batch": 1,
            "crop": "none",
        },
        "cache": str(folder / "cache"),
        "model": {"name": "unet", "features": list(FEATURES), "deep_supervision": False},
        "augment": {"rotate_p": 0, "scale_p": 0, "blur_p": 0, "low_resolution_p": 0},
        "train": {
            "epochs": EPOCHS,
            "steps": STEPS,
            "optimiser": "adamw",
            "lr": 0.002,
            "schedule": "cosine",
            "warmup_steps": 20,
            "foreground": 0.6,
            "validate_every": EPOCHS,
            "precision": precision,
            "device": "cpu",
        },
        "metrics": ["dice"],
        "licence": "CC0-1.0",
    }
    return config.parse(data, where="benchmark")


def learned(folder: Path) -> Run:
    """The run in `folder`/run, trained if it is not there, with the patch that the benchmark predicts with."""
    run = Run(folder / "run")
    if not run.path("card.md").exists():  # the last thing that training writes
        for seed in CASES:
            image, labels = phantom.phantom(seed)
            phantom.write(image, folder / "data" / "images" / f"case{seed}.nii.gz")
            phantom.write(labels, folder / "data" / "labels" / f"case{seed}.nii.gz")
        labels_file = yaml.safe_dump({"labels": phantom.LABELS}, sort_keys=False)  # classes come in this order
        (folder / "data" / "labels.yaml").write_text(labels_file, encoding="utf-8")
        train(recipe(folder), run.folder)
    plan = run.plan.model_copy(update={"patch": PATCH, "batch": 1})
    run.write("plan.json", plan.model_dump(mode="json"))
    return Run(run.folder)


def for_nnunet(run: Run, folder: Path) -> dict[str, Path]:
    """The run as nnU-Net v2's model folders, one for each way of resampling.

    Through SimpleITK nnU-Net sees (k, j, i) of a file that medseg shows as (i, j, k), so kernels are turned around.
    """
    state, _, _ = checkpoint.load(run.path("weights.safetensors"))
    made = {}
    for name in RESAMPLING:
        made[name] = folder / f"nnunet_{name}"
        (made[name] / "fold_0").mkdir(parents=True, exist_ok=True)
        weights = {
            "network_weights": _as_stored(state),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "3d_fullres"},
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(weights, made[name] / "fold_0" / "checkpoint_final.pth")
        labels = {"background": 0, **phantom.LABELS}
        dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
        (made[name] / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
        (made[name] / "plans.json").write_text(json.dumps(_plans(run, name), indent=1), encoding="utf-8")
    return made


def turned(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights for images with the axes in reverse order."""
    return {
        name: tensor.permute(0, 1, 4, 3, 2).contiguous() if tensor.ndim == 5 else tensor
        for name, tensor in state.items()
    }


def _as_stored(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the further names under which nnU-Net's modules are registered."""
    stored = turned(state)
    for name in list(stored):
        for place, part in enumerate((".conv.", ".norm.")):
            if part in name:
                stored[name.replace(part, f".all_modules.{place}.")] = stored[name]
    return stored | {f"decoder.{name}": tensor for name, tensor in stored.items() if name.startswith("encoder.")}


def _plans(run: Run, resampling: str) -> dict[str, Any]:
    """plans.json with the numbers of the run's plan."""
    plan, how = run.plan, run.plan.normalisation[0]
    function, for_images, for_logits = RESAMPLING[resampling]
    reverse = [*reversed(plan.spacing_mm)]
    configuration = {
        "data_identifier": "benchmark",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [*reversed(plan.patch)],
        "median_image_size_in_voxels": [240, 160, 160],
        "spacing": reverse,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_data_kwargs": for_images,
        "resampling_fn_seg_kwargs": {**for_images, "is_seg": True, **({"order": 1} if "order" in for_images else {})},
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": for_logits,
        "architecture": architecture(FEATURES),
        "batch_dice": False,
    }
    seen = {"mean": how.mean, "std": how.sd, "percentile_00_5": how.lower, "percentile_99_5": how.upper}
    return {
        "dataset_name": "Dataset001_Benchmark",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": reverse,
        "original_median_shape_after_transp": [200, 200, 200],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": seen | {"median": how.mean, "min": how.lower, "max": how.upper}
        },
    }


def architecture(features: Sequence[int]) -> dict[str, Any]:
    """nnU-Net's plain U-Net as its plans name it; kernels of 3 and strides of 2 everywhere."""
    stages = len(features)
    arguments = {
        "n_stages": stages,
        "features_per_stage": list(features),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
