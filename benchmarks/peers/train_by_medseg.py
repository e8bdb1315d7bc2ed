"""medseg's own training, stopped after some steps: a process of its own, see work.py and training.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from work import Paces, job


def main() -> None:
    given = job()
    started = time.perf_counter()
    import torch

    from medseg import config
    from medseg.engine import fit
    from medseg.engine.batches import Batches
    from medseg.engine.train import train
    from medseg.interrupts import Interrupted

    out = Path(given["out"])
    (out / "recipe.yaml").write_text(given["recipe"], encoding="utf-8")
    recipe = config.load(out / "recipe.yaml")
    paces = Paces(given, started, stop=lambda: os.kill(os.getpid(), signal.SIGTERM))
    paces.wrap(fit, "_step", Batches, "__next__")
    first = "LOCAL_RANK" not in os.environ  # which starts the others
    if first:
        shutil.rmtree(out / "run", ignore_errors=True)
    with contextlib.suppress(Interrupted):  # as was asked
        train(recipe, out / "run")
    memory = torch.cuda.max_memory_allocated() if given["device"] == "cuda" else None
    if first:
        print(json.dumps(paces.told(memory) | {"flops": operations(recipe) if memory else None}), flush=True)


def operations(recipe: Any) -> float:
    """Of the forward and backward pass of one step, a multiplication and an addition counting two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = recipe.model.module().build(recipe.model.options, in_channels=1, out_channels=5)
        x = torch.empty(recipe.prepare.batch, 1, *recipe.prepare.patch)
    with FlopCounterMode(display=False) as counter:
        outputs = network.train()(x)
        sum(one.sum() for one in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)).backward()
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
