"""medseg info"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    path: Annotated[Path, typer.Argument(help="Scan (file or DICOM folder), or run folder.")],
    series: Annotated[str | None, typer.Option(help="Which series of a DICOM folder.")] = None,
) -> None:
    """Describe a scan (shape, spacing, orientation, values) or a run (network, labels, plan, training data)."""
    if (path / "recipe.yaml").exists() or path.suffix == ".zip":
        _run(path)
    else:
        _scan(path, series)


def _scan(path: Path, series: str | None) -> None:
    import medseg
    from medseg.geometry import orientation

    volume = medseg.read(path, series=series)
    print(f"{path}")
    print(f"  read by      {volume.source.reader}" + f" ({volume.source.modality})" * bool(volume.source.modality))
    print(f"  channels     {volume.array.shape[0]}")
    print(f"  voxels       {' x '.join(str(side) for side in volume.shape)}  {volume.array.dtype}")
    print(f"  spacing      {' x '.join(f'{side:.4g}' for side in volume.spacing_mm)} {volume.unit}")
    print(f"  orientation  {orientation(volume.affine)}")
    print(f"  origin       {', '.join(f'{value:.3f}' for value in volume.affine[:3, 3])} {volume.unit} (RAS+)")
    print(f"  values       {volume.array.min()} to {volume.array.max()}")


def _run(path: Path) -> None:
    from medseg.engine.run import Run

    run = Run.open(path)
    recipe, plan = run.recipe, run.plan
    print(f"{recipe.name}: {recipe.model.name} {dict(recipe.model.options)}")
    print(f"  labels       {', '.join(run.table.names)}")
    print(f"  channels     {', '.join(plan.channels)}")
    print(f"  plan         spacing {plan.spacing_mm} mm, patch {plan.patch}, orientation {plan.orientation}")
    print(f"  data         {recipe.dataset.dump()}")
    print(f"  weights      {'yes' if run.path('weights.safetensors').exists() else 'not yet'}")
    print(f"  licence      {recipe.licence}")
