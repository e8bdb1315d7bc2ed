"""What the data set adapters share: case ids from file names, files that must exist, JSON and YAML at the door."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from medseg.refusal import Refusal

SUFFIXES = (
    *(".nii.gz", ".seg.nrrd", ".ome.tiff", ".ome.tif"),
    *(
        ".nii",
        ".hdr",
        ".nrrd",
        ".nhdr",
        ".mha",
        ".mhd",
        ".dcm",
        ".png",
        ".jpg",
        ".jpeg",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
    ),
)
"""Names that stand for an image, longest first. A folder (DICOM series) stands for one as well. Other files beside
images (.raw of an .mhd, .json, Thumbs.db) are passed over; a scan of another suffix can be named in a `table`."""

COLOURS = ("red", "green", "blue")
"""The channels of a photograph, as the picture reader gives them."""
WHITE = (1, 7, 255)
"""What white is in a black and white mask, depending on how the file stores it: one bit, colours (1 + 2 + 4), or eight
bits of grey."""
UNITS: dict[str, Literal["volume", "slice", "image"]] = {"voxel": "volume", "slice": "slice", "image": "image"}
"""`LabelTable.unit` -> `Case.unit`."""


def key(channels: Sequence[str], unnamed: str) -> str:
    """The key in `Case.images` of a file with these channels: 'all' where there are several."""
    return "all" if len(channels) > 1 else channels[0] if channels else unnamed


def case_id(path: Path) -> str:
    """File name without its image suffix; a folder's whole name."""
    if path.is_dir():
        return path.name
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def images(folder: Path, *, ending: str = "") -> dict[str, Path]:
    """Image files and series folders directly in `folder`, by case id, sorted.

    `ending` is taken off the names that have it, and files without it are passed over.

    Raises:
        Refusal: no such folder, nothing in it, or two images of one id.
    """
    if not folder.is_dir():
        raise Refusal(
            folder, found="no such folder", needed="a folder of images", remedy="correct the data set's root or layout"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.name.lower().endswith(SUFFIXES)):
            continue
        name = case_id(path)
        if not name.lower().endswith(ending.lower()):
            continue
        name = name[: len(name) - len(ending)]
        if name in found:
            raise Refusal(
                path,
                found=f"a second image of case '{name}' beside {found[name].name}",
                needed="one image for each case and channel",
                remedy="remove or rename one of the two",
            )
        found[name] = path
    if not found:
        raise Refusal(
            folder,
            found="no images" + (f" whose names end in '{ending}'" if ending else ""),
            needed=f"series folders or files ending in {', '.join(SUFFIXES)}",
            remedy="correct the data set's root or layout",
        )
    return dict(sorted(found.items()))


def must_exist(paths: Iterable[Path], *, named_by: Path) -> None:
    """Refuse, naming the missing files (the first ten), unless all of `paths` exist."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        listed = ", ".join(str(path) for path in missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise Refusal(
            missing[0],
            found=f"{len(missing)} missing file{'s' if len(missing) > 1 else ''}: {listed}",
            needed=f"every file that {named_by} calls for",
            remedy="complete the download or copy, or correct the paths",
        )


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    return _mapping(path, "JSON", lambda text: json.loads(text))


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file."""
    import yaml

    return _mapping(path, "YAML", yaml.safe_load)


def must_match(
    images: Mapping[str, Path], labels: Mapping[str, Path], *, image_folder: Path, label_folder: Path
) -> None:
    """Refuse, naming the case, unless every image has its label map and every label map its image."""
    for case in sorted(images.keys() ^ labels.keys()):
        folder, other = (label_folder, images) if case in images else (image_folder, labels)
        raise Refusal(
            folder / case,
            found=f"no such file, though there is {other[case].name}",
            needed="an image and a label map for each case",
            remedy="complete the download or copy, or remove the file that is alone",
        )


def folders(root: Path, pattern: str) -> list[Path]:
    """Folders directly in `root` whose names fit `pattern` (in any case), sorted.

    Raises:
        Refusal: there is none.
    """
    found = root.iterdir() if root.is_dir() else ()
    named = (path for path in found if fnmatch(path.name.lower(), pattern.lower()) and not path.name.startswith("."))
    fits = sorted(path for path in named if path.is_dir())
    if not fits:
        raise Refusal(
            root,
            found=f"no folders {pattern}" if root.is_dir() else "no such folder",
            needed=f"a folder {pattern} for each case",
            remedy="correct the data set's root",
        )
    return fits


def _mapping(path: Path, language: str, parse: Any) -> dict[str, Any]:
    if not path.parent.is_dir():
        remedy = "correct the data set's root; it is taken from the folder that the command is called in"
        raise Refusal(path.parent, found="no such folder", needed=f"one with {path.name}", remedy=remedy)
    try:
        content = parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise Refusal(
            path, found="no such file", needed=f"this {language} file", remedy="write it, or correct the root"
        ) from error
    except Exception as error:  # each parser has its own family of errors; all mean that the file is not what it says
        raise Refusal(
            path, found=f"unreadable {language} ({error})", needed=f"valid {language}", remedy="repair the file"
        ) from error
    if not isinstance(content, dict):
        raise Refusal(
            path, found=f"{language} that is no mapping", needed="names with values", remedy="repair the file"
        )
    return content


def wanted(content: Mapping[str, Any], key: str, path: Path) -> Any:
    """content[key], or a refusal that names file and key."""
    if key not in content:
        raise Refusal(
            path,
            found=f"no '{key}' (only: {', '.join(map(str, content)) or 'nothing'})",
            needed=f"the key '{key}'",
            remedy=f"add '{key}' to the file",
        )
    return content[key]
