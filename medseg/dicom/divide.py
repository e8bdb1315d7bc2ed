"""Dividing slices that lie at the same places into volumes, by what their headers say about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np

from medseg.dicom import geometry, marks
from medseg.dicom.frames import Frame
from medseg.dicom.marks import Mark

TOGETHER = 3
"""Marks that may tell volumes apart only together, such as echo and component."""
FEWEST = 3
"""Slices of a part that its marks alone, without a repeated place, make a volume of its own."""
UNEVEN = 0.02
"""Share of the typical step by which the steps of an evenly spaced stack may differ."""
LACKING = 0.25
"""Slices that may be missing, as a share of those that are there. Two volumes 1 mm apart, in steps of 3 mm, would be
one of 1 mm that lacks every third slice."""

Part = tuple[str, tuple[Frame, ...]]
"""Name and frames."""


def divide(frames: Sequence[Frame]) -> tuple[str, list[Part]]:
    """Divide parallel slices so that no place is taken twice in any part.

    A mark, or a combination of up to `TOGETHER` of them in the order of `marks.MARKS`, divides if it makes as many
    parts as the most crowded place has slices. Else the order of a moment (`Mark.ranked`) at each place does, if every
    place has as many slices; else blocks of instance numbers that each cover every place.
    Where no place is taken twice, slices that lie among one another are still divided by a strict mark (echo, b-value,
    ...), or by any mark, or runs of instance numbers, if that makes uneven slices even.

    Returns:
        How it was done, in words, and the parts; ("", one part without a name) if nothing divides or nothing needs to.
    """
    whole = ("", [("", tuple(frames))])
    height = _heights(frames)
    place = _places(height)
    crowd = np.bincount(place)
    if len(crowd) == 1:
        return whole
    differing = marks.differing(frame.marks for frame in frames)
    if crowd.max() == 1:
        return _interleaved(frames, height, differing) or whole
    return _by_marks(frames, place, differing) or _by_moment(frames, place) or _by_number(frames, place) or whole


def _heights(frames: Sequence[Frame]) -> np.ndarray:
    rows, columns = geometry.directions(frames)
    common = geometry.commonest(rows, columns)
    return np.array([frame.position for frame in frames]) @ np.cross(rows[common], columns[common])


def _places(height: np.ndarray) -> np.ndarray:
    """(n,) number of the place of each slice, from the lowest."""
    order = np.argsort(height, kind="stable")
    place = np.empty(len(height), dtype=int)
    place[order] = np.concatenate([[0], np.cumsum(np.diff(height[order]) > geometry.SAME_PLACE_MM)])
    return place


def _pick(frames: Sequence[Frame], which: np.ndarray) -> tuple[Frame, ...]:
    return tuple(frames[int(index)] for index in which)


def _codes(frames: Sequence[Frame], mark: Mark) -> np.ndarray:
    """(n,) rank of each frame's value among all values; to have none comes first."""
    given = [frame.marks.get(mark.name) for frame in frames]
    rank = {value: n for n, value in enumerate(sorted(set(given), key=_key))}
    return np.array([rank[value] for value in given])


def _key(value: marks.Value | None) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    return (1, value, "") if isinstance(value, float) else (2, 0.0, value)


def _by_marks(frames: Sequence[Frame], place: np.ndarray, differing: Sequence[Mark]) -> tuple[str, list[Part]] | None:
    codes = {mark.name: _codes(frames, mark) for mark in differing}
    crowd = int(np.bincount(place).max())
    few = [mark for mark in differing if codes[mark.name].max() < crowd]
    for count in range(1, TOGETHER + 1):
        for chosen in combinations(few, count):
            if any(mark.beside in codes and mark.beside not in {other.name for other in chosen} for mark in chosen):
                continue
            part = np.unique(np.stack([codes[mark.name] for mark in chosen]), axis=1, return_inverse=True)[1].ravel()
            if part.max() + 1 == crowd and len(set(zip(place.tolist(), part.tolist(), strict=True))) == len(frames):
                return " and ".join(mark.name for mark in chosen), list(_named(frames, part, chosen))
    return None


def _named(frames: Sequence[Frame], part: np.ndarray, chosen: Sequence[Mark]) -> Iterator[Part]:
    codes = {mark.name: _codes(frames, mark) for mark in chosen}
    values = {mark.name: {frame.marks[mark.name] for frame in frames if mark.name in frame.marks} for mark in chosen}
    for number in range(part.max() + 1):
        members = np.flatnonzero(part == number)
        first = frames[members[0]].marks
        words = []
        for mark in chosen:
            without = len(values[mark.name]) < codes[mark.name].max() + 1
            rank = int(codes[mark.name][members[0]]) + (0 if without else 1)
            value = first.get(mark.name)
            words.append(f"no {mark.name}" if value is None else marks.name(mark, rank, value, values[mark.name]))
        yield ", ".join(words), _pick(frames, members)


def _by_moment(frames: Sequence[Frame], place: np.ndarray) -> tuple[str, list[Part]] | None:
    crowd = np.bincount(place)
    if crowd.min() != crowd.max():
        return None
    for mark in marks.MARKS:
        if not mark.ranked or not all(mark.name in frame.marks for frame in frames):
            continue
        codes = _codes(frames, mark)
        order = np.lexsort([codes, place])
        if (np.diff(codes[order].reshape(len(crowd), -1), axis=1) == 0).any():
            continue
        part = np.empty(len(frames), dtype=int)
        part[order] = np.tile(np.arange(crowd[0]), len(crowd))
        parts = [_pick(frames, np.flatnonzero(part == number)) for number in range(crowd[0])]
        lowest = [frame.marks[mark.name] for frame in _pick(frames, order[: crowd[0]])]
        return f"{mark.name} at each place", [
            (marks.name(mark, number, value, set(lowest)), members)
            for number, (value, members) in enumerate(zip(lowest, parts, strict=True), start=1)
        ]
    return None


def _by_number(frames: Sequence[Frame], place: np.ndarray) -> tuple[str, list[Part]] | None:
    numbers, crowd = _numbers(frames), np.bincount(place)
    if numbers is None or crowd.min() != crowd.max():
        return None
    blocks = np.argsort(numbers).reshape(crowd[0], -1)
    if (np.sort(place[blocks]) != np.arange(len(crowd))).any():
        return None
    return _blocks(frames, numbers, blocks)


def _numbers(frames: Sequence[Frame]) -> np.ndarray | None:
    """(n,) instance numbers, or those of the frames of one object, if all differ."""
    numbers = [
        frame.marks.get(marks.NUMBER) if frame.instance.frame is None else frame.instance.frame for frame in frames
    ]
    if len(set(numbers)) < len(frames) or not all(isinstance(number, float | int) for number in numbers):
        return None
    return np.array(numbers, dtype=float)


def _blocks(frames: Sequence[Frame], numbers: np.ndarray, blocks: Iterable[np.ndarray]) -> tuple[str, list[Part]]:
    return "blocks of instance numbers, as nothing else tells them apart", [
        (f"part {n}, instances {numbers[block[0]]:g} to {numbers[block[-1]]:g}", _pick(frames, block))
        for n, block in enumerate(blocks, start=1)
    ]


def _interleaved(
    frames: Sequence[Frame], height: np.ndarray, differing: Sequence[Mark]
) -> tuple[str, list[Part]] | None:
    missing = _missing(height)
    uneven = missing is None or missing > LACKING * len(height)
    for mark in differing:
        if not mark.strict and not uneven:
            continue
        part = _codes(frames, mark)
        if _among([height[part == number] for number in range(part.max() + 1)], even=not mark.strict):
            return mark.name, list(_named(frames, part, [mark]))
    numbers = _numbers(frames) if uneven else None
    if numbers is None:
        return None
    order = np.argsort(numbers)
    steps = np.diff(height[order])
    runs = np.split(order, np.flatnonzero(steps * np.median(steps) < 0) + 1)  # where the next pass over them begins
    return _blocks(frames, numbers, runs) if _among([height[run] for run in runs], even=True) else None


def _among(parts: Sequence[np.ndarray], *, even: bool) -> bool:
    """Whether there are several parts, large enough and even if need be, that lie among one another; given the heights
    of each part's slices."""
    heights = sorted(map(np.sort, parts), key=lambda own: own[0])
    if len(heights) < 2 or min(map(len, heights)) < FEWEST or (even and None in map(_missing, heights)):
        return False
    return any(after[0] < before[-1] for before, after in pairwise(heights))


def _missing(height: np.ndarray) -> int | None:
    """How many slices are missing if all steps are whole multiples of the typical one, else None."""
    steps = np.diff(np.sort(height))
    typical = np.median(steps)
    multiples = np.rint(steps / typical)
    if (multiples < 1).any() or (np.abs(steps - multiples * typical) > UNEVEN * typical).any():
        return None
    return int(multiples.sum()) - len(steps)
