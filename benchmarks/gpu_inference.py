"""STU-Net-B with 105 classes on a CT of 512 x 512 x 300 voxels, on a CUDA GPU: file to label file, the model warm.

    python benchmarks/gpu_inference.py [--run RUN] [--slices 300] [--rounds 3] [--precision bf16]

Told: seconds by stage; GPU memory; NIfTI in and out, and DICOM in and DICOM SEG out, by PyTorch as it is and by its
compiler. The network by itself as a share of what the card's convolutions reach (the fastest of some, measured beside
it), and how much of that its own convolutions would reach with nothing between them. Without --run the weights are
random, but such that labels look like organs and not like noise: the finest levels pass on what comes from below, by
weights of 0 that cost as much to compute as any others, and the background's bias is set so that four fifths of the
voxels are background. Where there is no CUDA GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

DEVICE = "cuda"
CLASSES = 105
MODEL = {"name": "stunet", "size": "B", "deep_supervision": False}
PLANE = (512, 512)
PATCH = (128, 128, 128)
SPACING_MM = (0.75, 0.75, 1.5)
NETWORK_MM = 1.5
BACKGROUND = 0.8
SMOOTH = 2
"""Levels of the decoder, coarsest first, that are as they come; labels are then made of blocks of 8 x 8 x 8 voxels."""
BACKENDS = ("eager", "compile")
BATCHES = (1, 4)
CONVOLUTIONS = ((32, 128), (64, 128), (128, 64), (256, 32))
"""Channels and side of the maps on which the card's peak is looked for."""


def made_run(folder: Path, precision: str) -> Path:
    """A run folder with random weights."""
    from medseg import config
    from medseg.engine import checkpoint
    from medseg.engine.run import Run, build_network
    from medseg.labels import LabelTable
    from medseg.plan import Normalisation, Plan

    recipe = config.parse(
        {
            "name": "gpu_benchmark",
            "dataset": {"name": "none"},
            "model": MODEL,
            "predict": {"precision": precision},
        },
        where="benchmark",
    )
    table = LabelTable.of({f"structure {number}": number for number in range(1, CLASSES)})
    plan = Plan(
        orientation="RAS",
        spacing_mm=(NETWORK_MM,) * 3,
        patch=PATCH,
        batch=1,
        normalisation=(Normalisation(kind="ct", lower=-1000, upper=1000, mean=0, sd=400),),
        crop="none",
        order=3,
        channels=("CT",),
        unit="mm",
    )
    torch.manual_seed(0)
    network = build_network(recipe, plan, table).eval()
    smooth(network)
    with torch.inference_mode():
        logits = network.to(DEVICE)(torch.randn(1, 1, *PATCH, device=DEVICE))[0]
        lead = logits[1:].amax(0) - logits[0]
        network.seg_outputs[-1].bias[0] += lead.flatten()[::37].quantile(BACKGROUND)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(config.dump(recipe), encoding="utf-8")
    run = Run(folder)
    run.write("plan.json", plan.model_dump(mode="json"))
    run.write("labels.json", table.to_json())
    state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    checkpoint.save(folder / "weights.safetensors", state, {"epoch": 0})
    return folder


def smooth(network: Any) -> None:
    """Let the finest levels of the decoder see only what comes from below, voxel by voxel."""
    for stage in network.conv_blocks_localization[SMOOTH:]:
        for block in stage:
            inputs = block.conv1.in_channels // 2
            for layer in (block.conv1, block.conv3):
                layer.weight.data[:, inputs:] = 0  # the skip connection comes second
            for layer in (block.conv1, block.conv2):
                middle = layer.weight.data[:, :, 1, 1, 1].clone()
                layer.weight.data.zero_()[:, :, 1, 1, 1] = middle * 27**0.5


def dicom(hu: np.ndarray, folder: Path) -> None:
    """The scan as one file a slice; axes towards the patient's right, front and head."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    study, series, frame = (generate_uid() for _ in range(3))
    for number, plane in enumerate(hu.transpose(2, 1, 0)[:, ::-1, ::-1]):  # rows run to the back, columns to the left
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.PatientID, one.PatientName, one.InstanceNumber = "CT", "1", "Bench^Mark", number + 1
        one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = one.StudyID = one.AccessionNumber = ""
        one.ReferringPhysicianName = one.PositionReferenceIndicator = ""
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, SPACING_MM[2] * number], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = [SPACING_MM[1], SPACING_MM[0]], SPACING_MM[2]
        one.Rows, one.Columns, one.SamplesPerPixel = *plane.shape, 1
        one.PhotometricInterpretation, one.PixelRepresentation = "MONOCHROME2", 1
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.RescaleSlope, one.RescaleIntercept = 1, 0
        one.PixelData = np.ascontiguousarray(plane).tobytes()
        pydicom.dcmwrite(folder / f"{number:04d}.dcm", one, enforce_file_format=True)


def seconds_of(work: Callable[[], Any], times: int = 10) -> float:
    """Seconds, the mean of several after three that warm it up."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


def peak_flops(kind: torch.dtype) -> float:
    """FLOP/s of the fastest 3 x 3 x 3 convolution that was tried, channels last."""
    best = 0.0
    for channels, side in CONVOLUTIONS:
        layer = torch.nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        seconds = of_convolution(layer, (1, channels, side, side, side), kind)
        best = max(best, 2 * 27 * channels**2 * side**3 / seconds)
    return best


def of_convolution(layer: torch.nn.Conv3d, shape: Sequence[int], kind: torch.dtype) -> float:
    """Seconds of a convolution without its bias, channels last."""
    layout = torch.channels_last_3d
    weight = layer.weight.detach().to(DEVICE, kind).contiguous(memory_format=layout)
    x = torch.randn(tuple(shape), device=DEVICE, dtype=kind).contiguous(memory_format=layout)
    with torch.inference_mode():
        return seconds_of(
            lambda: torch.conv3d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        )


def of_all_convolutions(network: torch.nn.Module, kind: torch.dtype) -> float:
    """Seconds that all convolutions of a tile take, each by itself."""
    seen: list[tuple[torch.nn.Conv3d, torch.Size]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, answer: seen.append((layer, given[0].shape)))
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv3d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 1, *PATCH, device=DEVICE))
    for hook in hooks:
        hook.remove()
    return sum(of_convolution(layer, shape, kind) for layer, shape in seen)


def flops_of_a_tile(network: torch.nn.Module) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, *PATCH, device=DEVICE))
    return int(counter.get_total_flops())


def timed(predictor: Any, scan: Path, out: Path, formats: list[str], rounds: int) -> dict[str, Any]:
    """The fastest of several rounds, after one that warms everything up."""
    from medseg.case import Case
    from medseg.engine.batch import predict_all

    best: dict[str, Any] = {"seconds": float("inf")}
    case = Case(id="scan", patient="scan", images={predictor.plan.channels[0]: scan})
    for number in range(rounds + 1):
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        predict_all(predictor, [case], out, formats=formats, announce=lambda text: None)
        seconds = time.perf_counter() - started
        said = json.loads((out / "predict.json").read_text(encoding="utf-8"))["cases"][0]
        if said["state"] != "done":
            sys.exit(said["reason"])
        if number and seconds < best["seconds"]:
            best = {**said, "seconds": seconds, "gpu": torch.cuda.max_memory_allocated()}
    return best


def alone(predictor: Any, flops: int, peak: float) -> None:
    """Print how long the network takes for a tile, one at a time and several."""
    for batch in BATCHES:
        tiles = torch.randn(batch, 1, *PATCH, device=DEVICE)
        seconds = seconds_of(lambda tiles=tiles: predictor.members[0].run(tiles)) / batch  # type: ignore[misc]
        rate = flops / seconds
        print(
            f"network, {batch} at a time: {1e3 * seconds:.2f} ms a tile, {rate / 1e12:.0f} TFLOP/s, {rate / peak:.0%}"
        )


def report(name: str, found: dict[str, Any]) -> None:
    stages = {stage["name"]: stage["seconds"] for stage in found.get("stages", [])}
    told = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
    line = f"{name}: {found['seconds']:.2f} s ({told}); GPU {found['gpu'] / 2**30:.2f} GiB"
    print(f"{line}; {found['facts']['tiles']} tiles", flush=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--run", type=Path, help="run folder with weights; else random ones")
    asked.add_argument("--slices", type=int, default=300)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--precision", default="bf16", choices=("bf16", "16", "32"))
    given = asked.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA GPU here: nothing was measured")
        return
    import phantom

    from medseg.engine.predict import Predictor

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hu, _ = phantom.phantom(0, (*PLANE, given.slices))
        scan = phantom.write(hu, folder / "scan.nii.gz", SPACING_MM)
        dicom(hu, folder / "series")
        run = given.run or made_run(folder / "run", given.precision)
        kind = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32}[given.precision]
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {given.precision}")
        for backend in BACKENDS:
            changes = [f"precision={given.precision}", f"backend={backend}"]
            started = time.perf_counter()
            predictor = Predictor.load([run], device=DEVICE, changes=changes)
            print(f"{backend}: loaded in {time.perf_counter() - started:.1f} s", flush=True)
            if backend == BACKENDS[0]:
                network = predictor.members[0].network
                peak, flops = peak_flops(kind), flops_of_a_tile(network)
                own = flops / of_all_convolutions(network, kind)
                print(f"convolutions reach {peak / 1e12:.0f} TFLOP/s, those of the network {own / peak:.0%} of that")
            alone(predictor, flops, peak)
            report("NIfTI to NIfTI", timed(predictor, scan, folder / f"nifti {backend}", ["nifti"], given.rounds))
        seg = timed(predictor, folder / "series", folder / "dicom", ["dicom_seg"], given.rounds)
        report("DICOM to DICOM SEG", seg)


if __name__ == "__main__":
    main()
