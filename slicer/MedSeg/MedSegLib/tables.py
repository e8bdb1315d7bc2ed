"""Tables in the scene: volumes of segments, probabilities of classes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import vtk

from MedSegLib.scene import to_world
from MedSegLib.segments import layers, segments

VOLUME = "Volume [ml]"


def counted(segmentation: Any) -> dict[str, float]:
    """ml of each segment by name, by its voxels: so of what a person has corrected, too. Where several have one name,
    they are numbered.

    Raises:
        Trouble: the segmentation is under a transform that bends space, or holds no voxels.
    """
    found: dict[str, float] = {}
    scale = abs(float(np.linalg.det(to_world(segmentation)[:3, :3])))
    names = _names(segmentation)
    for layer in layers(segmentation, names):
        ml = float(np.prod(layer.image.GetSpacing())) * scale / 1000
        found.update({key: count * ml for key, count in layer.counted().items()})
    return {name: found.get(key, 0.0) for key, name in names.items()}


def _names(segmentation: Any) -> dict[str, str]:
    """By key, a name for each segment that no other has."""
    found: dict[str, str] = {}
    for one in segments(segmentation):
        name, number = one.name, 1
        while name in found.values():
            number += 1
            name = f"{one.name} ({number})"
        found[one.key] = name
    return found


def add_volumes(scene: Any, name: str, volume_ml: Mapping[str, float]) -> Any:
    """A table node with a row for each structure."""
    rows = [(structure, float(ml)) for structure, ml in volume_ml.items()]
    return _added(scene, name, {"Structure": [row[0] for row in rows], VOLUME: [row[1] for row in rows]})


def add_classes(scene: Any, name: str, scores: Path) -> Any:
    """A table node of what a classifier said (`medseg predict --output scores`): a row for the scan, or for each slice.
    The column of the case is left out: it is the scan that the table is named after.

    Raises:
        OSError, ValueError: the file is no such table.
    """
    with scores.open(encoding="utf-8", newline="") as handle:
        header, *rows = csv.reader(handle)
    columns: dict[str, Sequence[Any]] = {}
    for place, title in enumerate(header):
        values = [row[place] for row in rows]
        if title == "decision":
            columns[title] = values
        elif title != "case":
            columns[title] = [float(value) for value in values]
    return _added(scene, name, columns)


def _added(scene: Any, name: str, columns: Mapping[str, Sequence[Any]]) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    table = vtk.vtkTable()
    for title, values in columns.items():
        column = vtk.vtkStringArray() if values and isinstance(values[0], str) else vtk.vtkDoubleArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    node.SetAndObserveTable(table)
    node.SetUseColumnTitleAsColumnHeader(True)
    return node
