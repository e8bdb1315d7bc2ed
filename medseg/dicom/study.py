"""The series of a study, and the volumes in them, as the rules of a recipe see them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from medseg.dicom import select, series, stacks
from medseg.dicom.facts import Facts
from medseg.dicom.headers import Header
from medseg.dicom.series import Series
from medseg.dicom.settings import SeriesRules
from medseg.dicom.stacks import Stack

log = logging.getLogger(__name__)


def choose(path: Path, rules: SeriesRules) -> tuple[Series, tuple[Stack, ...], str]:
    """The series in a folder that rules choose; see `select.choose`.

    Returns:
        The series; those of its volumes that are meant; and why, empty where there was nothing to choose.

    Raises:
        Refusal: no series fits, or several fit equally well; or no file lies in space.
    """
    found, placed = series.look(path)
    choice = select.choose(rules, facts(found))
    if not choice.taken:
        raise choice.refusal(path)
    first, numbers = choice.taken[0], {max(one.facts.volume_number, 1) for one in choice.taken}
    [taken] = [one for one in placed if one.headers[0].series_uid == first.facts.uid]
    volumes = stacks.split(taken).stacks
    if len(placed) == 1 and len(numbers) == len(volumes) and first.fits:
        return taken, volumes, ""
    log.log(logging.INFO if first.fits else logging.WARNING, "%s: %s", path, choice.because)
    return taken, tuple(stack for stack in volumes if stack.number in numbers), choice.because


def by_study(found: Iterable[Header]) -> dict[str, list[Facts]]:
    """Facts of every series, or volume in one, by StudyInstanceUID."""
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        studies[header.study_uid].append(header)
    return {uid: facts(headers) for uid, headers in studies.items()}


def facts(found: Sequence[Header]) -> list[Facts]:
    """Facts of every series, or volume in one; of objects that are no scans, too."""
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        groups[header.series_uid].append(header)
    return [one for group in groups.values() for one in _of_series(group)]


def _of_series(group: Sequence[Header]) -> list[Facts]:
    placed = series.by_series([header for header in group if not header.kind])
    if not placed:
        return [Facts.of(group, ())]
    parts = stacks.split(placed[0]).stacks
    several = []
    for stack in parts:
        files = {frame.instance.path for frame in stack.frames}
        own = [header for header in placed[0].headers if header.path in files]
        several.append(Facts.of(own, stack.frames, stack.name, stack.number if len(parts) > 1 else 0))
    return several
