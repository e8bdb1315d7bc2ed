"""nnU-Net v2's own trainer, some steps of it: a process of its own in its own environment, see work.py and training.py.

What nnU-Net's planning would have written is written here, from the arrays that medseg prepared.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

from work import Paces, job

NAME = "Dataset001_Benchmark"


def main() -> None:
    given = job()
    started = time.perf_counter()
    work = Path(given["work"]) / "nnunet"
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(work / name)
    with contextlib.redirect_stdout(sys.stderr):
        import torch
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        dataset = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, **given["labels"]},
            "file_ending": ".nii.gz",
        }
        dataset["numTraining"] = 5
        plans = prepared(Path(given["work"]) / "arrays", work / "preprocessed" / NAME, given)
        device = torch.device(given["device"])
        if given["device"] == "cpu":
            torch.set_num_threads(os.cpu_count() or 1)  # as nnU-Net's command does
        else:
            torch.backends.cudnn.benchmark = True  # likewise
        trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device)
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        paces = Paces(given, started)
        paces.wrap(trainer, "train_step", type(trainer.dataloader_train), "__next__")
        while not paces.enough:
            trainer.train_step(next(trainer.dataloader_train))
        memory = torch.cuda.max_memory_allocated() if given["device"] == "cuda" else None
        told = paces.told(memory)
    print(json.dumps(told), flush=True)
    sys.stdout.flush()
    for worker in multiprocessing.active_children():  # asked to stop, they finish what they have begun
        worker.kill()


def prepared(arrays: Path, folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The cases as nnU-Net keeps them, split and fingerprint, once; and its plans."""
    import numpy as np
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    plans = _plans(given)
    sides = json.loads((arrays / "cases.json").read_text(encoding="utf-8"))
    (folder / "benchmark").mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps([sides]), encoding="utf-8")
    (folder / "dataset_fingerprint.json").write_text("{}", encoding="utf-8")
    for name in (*sides["train"], *sides["val"]):
        if (folder / "benchmark" / f"{name}.b2nd").exists():
            continue
        case = np.load(arrays / f"{name}.npz")
        image, target = case["image"], case["target"].astype(np.int8)
        places = DefaultPreprocessor._sample_foreground_locations(target, list(given["labels"].values()), seed=1)
        blocks, chunks = comp_blosc2_params(image.shape, tuple(given["patch"]))
        nnUNetDatasetBlosc2.save_case(
            image,
            target,
            {"class_locations": places},
            str(folder / "benchmark" / name),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks,
            blocks_seg=blocks,
        )
    return plans


def _plans(given: dict[str, Any]) -> dict[str, Any]:
    """As much of plans.json as training reads."""
    configuration = {
        "data_identifier": "benchmark",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": given["batch"],
        "patch_size": given["patch"],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": given["architecture"],
        "batch_dice": False,
    }
    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "continue_training": False,
    }


if __name__ == "__main__":
    main()
