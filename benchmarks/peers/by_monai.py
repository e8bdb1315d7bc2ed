"""A pipeline of MONAI's parts, file to label file: a process of its own, see work.py.

Plain: as its tutorials put it together; logits are brought back to the scan's grid, then the highest wins. Tuned:
channels-last, bf16, GroupNorm in place of InstanceNorm (the same numbers), and labels are brought back, not logits.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from work import Clock, job, measured


def main() -> None:
    given, clock = job(), Clock()
    tuned = given["tuned"]
    started = time.perf_counter()
    import nibabel
    import torch
    from monai import transforms
    from monai.inferers import sliding_window_inference

    from medseg.engine.run import Run

    assert nibabel  # imported when first used, which must not count as work
    imported = time.perf_counter()
    if given["threads"]:
        torch.set_num_threads(given["threads"])
    run = Run.open(Path(given["model"]))
    network, _ = run.load_network()  # a plain torch module; its norms are GroupNorms with a channel a group
    if tuned:
        network = network.to(memory_format=torch.channels_last_3d)
    else:
        _instance_norms(network)
    loaded = time.perf_counter()
    plan, how = run.plan, run.plan.normalisation[0]
    before = transforms.Compose(
        [
            transforms.EnsureChannelFirstd("image"),
            transforms.ScaleIntensityRanged(
                "image",
                how.lower,
                how.upper,
                (how.lower - how.mean) / how.sd,
                (how.upper - how.mean) / how.sd,
                clip=True,
            ),
            transforms.Spacingd("image", pixdim=plan.spacing_mm, mode="bilinear"),
        ]
    )
    read = clock.timed("read", transforms.LoadImaged("image", reader="NibabelReader"))
    save = transforms.SaveImaged(
        "labels",
        output_dir=given["out"],
        output_postfix="",
        separate_folder=False,
        output_dtype="uint8",
        resample=False,
        print_log=False,
    )
    back = transforms.Invertd("labels", before, orig_keys="image", nearest_interp=tuned)
    highest = transforms.AsDiscreted("labels", argmax=True)
    network.forward = clock.timed("network", network.forward)  # type: ignore[method-assign]

    def forward(tiles: Any) -> Any:
        if not tuned:
            return network(tiles)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(tiles.contiguous(memory_format=torch.channels_last_3d)).float()

    def work() -> None:
        with torch.inference_mode():
            data = clock.timed("prepare", before)(read({"image": given["scan"]}))
            windows = clock.timed("tiles", sliding_window_inference)
            data["labels"] = windows(data["image"][None], plan.patch, 1, forward, overlap=0.5, mode="gaussian")[0]
            order = (highest, back) if tuned else (back, highest)
            for step in order:
                data = clock.timed("reduce", step)(data)
            clock.timed("write", save)(data)

    measured(work, lambda: clock.seconds, imports=imported - started, load=loaded - imported)


def _instance_norms(module: Any) -> None:
    """The norms as torch's own InstanceNorm3d, with the same weights."""
    import torch

    for name, child in module.named_children():
        if isinstance(child, torch.nn.GroupNorm):
            norm = torch.nn.InstanceNorm3d(child.num_channels, eps=child.eps, affine=True)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            _instance_norms(child)


if __name__ == "__main__":
    main()
