"""medseg info"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medseg import plugins


def command(
    path: Annotated[Path, typer.Argument(help="Scan (file or DICOM folder), run folder, or name of a network.")],
    options: Annotated[list[str] | None, typer.Argument(help="Of the network: size=L in_channels=4 ...")] = None,
    series: Annotated[
        str | None,
        typer.Option(help="Which series of a DICOM folder: UID, number, part of its description; 7/2 is its volume 2."),
    ] = None,
    repair: Annotated[str | None, typer.Option(help="Irregular DICOM series: fix, report or refuse.")] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="For programs: a scan; or a run, or all of those in a folder.")
    ] = False,
) -> None:
    """Describe a scan (shape, spacing, orientation, values), a run (network, labels, plan, training data) or a network.

    Of a folder of folds, how good each is.

    Of a network, the weights are counted without making them. Channels: in_channels=4 out_channels=3, else what is
    usual.
    """
    if json_:
        _as_json(path, series, repair)
        return
    from medseg.dicom import archive

    known = str(path) in plugins.names("models")
    if (known and options) or (not path.exists() and (known or options)):
        _network(str(path), options or [])
    elif (path / "folds.json").is_file():
        _folds(path)
    elif (path / "recipe.yaml").exists() or (path.suffix == ".zip" and not archive.is_dicom_zip(path)):
        _run(path)
    else:
        _scan(path, series, repair)


def _as_json(path: Path, series: str | None, repair: str | None) -> None:
    """A folder that holds no scan is one of runs, perhaps of none yet."""
    import json

    from medseg import described
    from medseg.refusal import Refusal

    if not path.exists():
        raise Refusal(
            path,
            found="no such file or folder",
            needed="a scan, a run, or a folder of runs",
            remedy="check the path; networks are described for people alone, without --json",
        )
    models = described.listed(path) if described.is_model(path) or path.is_dir() else {"models": [], "broken": []}
    if not any(models.values()) and _is_scan(path):
        print(json.dumps(_scan_facts(path, series, repair), ensure_ascii=False, indent=1))
    else:
        print(json.dumps(models, ensure_ascii=False, indent=1))


def _is_scan(path: Path) -> bool:
    from medseg import readers

    return path.is_file() or readers.knows(path) is not None


def _scan_facts(path: Path, series: str | None, repair: str | None) -> dict[str, Any]:
    import medseg
    from medseg.geometry import orientation

    volume = medseg.read(path, series=series, repair=repair)
    return {
        "path": str(path),
        "reader": volume.source.reader,
        "modality": volume.source.modality,
        "channels": len(volume.array),
        "shape": list(volume.shape),
        "spacing_mm": volume.spacing_mm.tolist(),
        "unit": volume.unit,
        "orientation": orientation(volume.affine),
        "affine": volume.affine.tolist(),
        "type": str(volume.array.dtype),
    }


def _network(name: str, given: list[str]) -> None:
    import torch

    from medseg import config
    from medseg.models import build

    words: dict[str, Any] = {}
    for text in given:
        config.set_key(words, text)
    usual = getattr(plugins.find("models", name), "CHANNELS", (1, 2))
    channels = {key: words.pop(key, count) for key, count in zip(("in_channels", "out_channels"), usual, strict=True)}
    chosen = config.choose("models", {"name": name, **words})
    with torch.device("meta"):
        network = build(chosen.name, **channels, **dict(chosen.options))
    weights = sum(weight.numel() for weight in network.parameters())
    summary = plugins.summary("models", name) if name in plugins.names("models") else ""
    print(f"{name}: {summary}")
    print(f"  options      {chosen.options.model_dump()}")
    print(f"  channels     {channels['in_channels']} in, {channels['out_channels']} out")
    print(f"  parameters   {weights:,} ({weights * 4 / 2**20:,.0f} MiB in float32)")
    print(f"  state_dict   {len(network.state_dict())} entries")
    print(f"  input sides  multiples of {' x '.join(map(str, chosen.module().divisor(chosen.options)))}")


def _scan(path: Path, series: str | None, repair: str | None) -> None:
    import medseg
    from medseg.dicom.objects import NOTE_OF_CHECK
    from medseg.geometry import orientation

    volume = medseg.read(path, series=series, repair=repair)
    print(f"{path}")
    print(f"  read by      {volume.source.reader}" + f" ({volume.source.modality})" * bool(volume.source.modality))
    notes = volume.source.notes
    if notes.get("series_uid"):
        print(f"  series       {notes['series_number']} '{notes['series_description']}' {notes['series_uid']}")
    if notes.get(NOTE_OF_CHECK):
        print(f"  check        {notes[NOTE_OF_CHECK]}")
    print(f"  channels     {volume.array.shape[0]}")
    print(f"  voxels       {' x '.join(str(side) for side in volume.shape)}  {volume.array.dtype}")
    print(f"  spacing      {' x '.join(f'{side:.4g}' for side in volume.spacing_mm)} {volume.unit}")
    print(f"  orientation  {orientation(volume.affine)}")
    print(f"  origin       {', '.join(f'{value:.3f}' for value in volume.affine[:3, 3])} {volume.unit} (RAS+)")
    print(f"  values       {volume.array.min()} to {volume.array.max()}")


def _folds(path: Path) -> None:
    from medseg.engine import folds

    found = folds.load(path)
    print(folds.as_text(found, path))


def _run(path: Path) -> None:
    from medseg.engine.run import Run

    run = Run.open(path)
    recipe = run.recipe
    print(f"{recipe.name}: {recipe.model.name} {dict(recipe.model.options)}")
    if run.path("weights.safetensors").exists() and not run.path("plan.json").exists():
        print("  a part of a network, imported to be trained on; see card.md")
        return
    plan = run.plan
    print(f"  labels       {', '.join(run.table.names)}")
    print(f"  channels     {', '.join(plan.channels)}")
    patch = " x ".join(map(str, plan.patch))
    print(f"  plan         spacing {plan.spacing_text()}, patch {patch}, orientation {plan.orientation}")
    print(f"  data         {recipe.dataset.dump()}")
    print(f"  weights      {'yes' if run.path('weights.safetensors').exists() else 'not yet'}")
    print(f"  licence      {recipe.licence}")
