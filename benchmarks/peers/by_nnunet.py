"""nnU-Net v2's own predictor, file to label file: a process of its own in its own environment, see work.py."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from work import Clock, job, measured


def main() -> None:
    given = job()
    clock = Clock()
    with contextlib.redirect_stdout(sys.stderr):
        started = time.perf_counter()
        import torch
        from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
        from nnunetv2.inference import export_prediction, predict_from_raw_data
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

        imported = time.perf_counter()
        if given["threads"]:
            torch.set_num_threads(given["threads"])
        predictor = predict_from_raw_data.nnUNetPredictor(
            tile_step_size=0.5, use_gaussian=True, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(given["model"], use_folds=(0,))
        loaded = time.perf_counter()
    clock.wrap(SimpleITKIO, "read_images", "read")
    clock.wrap(SimpleITKIO, "write_seg", "write")
    clock.wrap(DefaultPreprocessor, "run_case", "prepare")
    clock.wrap(predictor, "predict_logits_from_preprocessed_data", "tiles")
    clock.wrap(predictor.network, "forward", "network")
    clock.wrap(export_prediction, "convert_predicted_logits_to_segmentation_with_correct_shape", "reduce")
    Path(given["out"]).mkdir(parents=True, exist_ok=True)

    def work() -> None:
        with contextlib.redirect_stdout(sys.stderr):
            predictor.predict_from_files_sequential([[given["scan"]]], [str(Path(given["out"]) / "scan")])

    measured(work, lambda: clock.seconds, imports=imported - started, load=loaded - imported)


if __name__ == "__main__":
    main()
