"""medseg, file to label file, by its batch: a process of its own, see work.py."""

from __future__ import annotations

import json
import time
from pathlib import Path

from work import job, measured


def main() -> None:
    given = job()
    started = time.perf_counter()
    import nibabel

    from medseg.case import Case
    from medseg.engine import device as devices
    from medseg.engine.batch import predict_all
    from medseg.engine.memory import Limits
    from medseg.engine.predict import Predictor
    from medseg.outputs import nifti
    from medseg.readers import read

    assert nibabel and nifti and read  # imported when first used, which must not count as work
    imported = time.perf_counter()
    devices.set_threads(given["threads"])
    limits = Limits.of(given.get("max_memory"))
    predictor = Predictor.load([Path(given["model"])], device="cpu", changes=given["changes"], limits=limits)
    loaded = time.perf_counter()
    out = Path(given["out"])

    def work() -> None:
        case = Case(id="scan", patient="scan", images={predictor.plan.channels[0]: Path(given["scan"])})
        outcomes = predict_all(predictor, [case], out, announce=lambda text: None)
        assert outcomes[0].state == "done", outcomes[0].reason

    def stages() -> dict[str, float]:
        said = json.loads((out / "predict.json").read_text(encoding="utf-8"))["cases"][0]
        return {stage["name"]: stage["seconds"] for stage in said["stages"]}

    measured(work, stages, imports=imported - started, load=loaded - imported)


if __name__ == "__main__":
    main()
