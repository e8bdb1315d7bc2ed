"""Which routes want a study, and which of its series: every rule's verdict, without a model or the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.dicom import allowed, select, study, survey
from medseg.dicom.facts import Facts
from medseg.dicom.headers import Header
from medseg.dicom.select import Choice
from medseg.dicom.survey import CheckedSeries
from medseg.refusal import Refusal
from medseg.service.routing.targets import ONE, Target


@dataclass(frozen=True)
class RouteVerdict:
    """What one route says of a study.

    Attributes:
        choices: channel, or `targets.ONE`, -> what its rules say of each series.
        series: which the model gets, as `medseg predict --series` takes it: one, or one for each channel; empty where
            the route does not want the study, or cannot have it.
        refusal: why a study that the route means is not segmented: several series are meant alike, slices are missing,
            its model is not there, ...
        because: the verdict in words.
    """

    target: Target
    choices: Mapping[str, Choice]
    series: str | dict[str, str]
    refusal: Refusal | None
    because: str

    @property
    def wanted(self) -> bool:
        """Whether there will be a job, be it one that fails at once."""
        return bool(self.series) or self.refusal is not None

    @property
    def facts(self) -> Facts | None:
        """Of the series that is taken, of several the first."""
        return next((choice.taken[0].facts for choice in self.choices.values() if choice.taken), None)

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the job, besides its input and its model."""
        route = self.target.route
        return {
            "outputs": list(route.outputs),
            "changes": list(route.set),
            "quality": route.quality,
            "labels": list(route.labels),
            "series": self.series,
        }


def judge(targets: Sequence[Target], headers: Sequence[Header], where: Path) -> list[RouteVerdict]:
    """What each route says of a study.

    Args:
        targets: the routes, see `targets.of`.
        headers: of all files of one study.
        where: its folder, for messages.
    """
    facts = study.facts(headers)
    return [_judge(target, facts, headers, where) for target in targets]


def _judge(target: Target, facts: Sequence[Facts], headers: Sequence[Header], where: Path) -> RouteVerdict:
    choices = {channel: select.choose(rules, facts) for channel, rules in target.rules.items()}

    def ended(because: str, refusal: Refusal | None = None, series: str | dict[str, str] = "") -> RouteVerdict:
        return RouteVerdict(target, choices, series, refusal, because)

    lacking = {channel: choice for channel, choice in choices.items() if not choice.taken}
    if lacking:
        because = "; ".join(f"{_named(channel)}{choice.because}" for channel, choice in lacking.items())
        refusals = [_meant(target, channel, choice, headers, where) for channel, choice in lacking.items()]
        return ended(because, refusals[0] if all(refusals) else None)
    because = "; ".join(f"{_named(channel)}{choice.because}" for channel, choice in choices.items())
    if target.problem:
        return ended(because or "its model says which series it takes, and is not there", target.problem)
    refusal = _unfit(target, choices, headers, where)
    if refusal:
        return ended(because, refusal)
    found = {channel: _spoken(choice) for channel, choice in choices.items()}
    return ended(because, None, found.get(ONE, found))


def _named(channel: str) -> str:
    return f"{channel}: " if channel else ""


def _meant(target: Target, channel: str, choice: Choice, headers: Sequence[Header], where: Path) -> Refusal | None:
    """The refusal where nothing was taken of a study though something in it was meant: several series alike, or one
    whose images lie nowhere in space. None where the route just does not want it."""
    if choice.code == "several-series":
        return choice.refusal(where)
    for verdict in choice.verdicts:
        lost = [header for header in headers if header.series_uid == verdict.facts.uid and header.unplaced]
        if not lost or not verdict.facts.unfit or any(header.picture for header in lost):
            continue
        whole = replace(verdict.facts, unfit="", slices=len(lost))
        if not select.judge(target.rules[channel], whole).denied:
            return Refusal(
                where,
                found=f"{verdict.facts.text}: {lost[0].unplaced}",
                needed="whole slices with a position, an orientation and a pixel spacing",
                remedy="send the original series again",
                code="truncated" if lost[0].cut else "no-geometry",
            )
    return None


def _unfit(target: Target, choices: Mapping[str, Choice], headers: Sequence[Header], where: Path) -> Refusal | None:
    """Why what was chosen cannot be read, as far as headers tell."""
    shared = select.shared(choices)
    if shared:
        return Refusal(
            where,
            found=f"one series for several channels: {', '.join(shared)}",
            needed="a series for each channel",
            remedy="let the rules of the channels tell them apart",
            code="channels",
        )
    taken = {choice.taken[0].facts.uid for choice in choices.values()}
    own = [header for header in headers if header.series_uid in taken]
    checked = {one.head.series_uid: one for one in survey.check(own, target.dicom).series}
    for choice in choices.values():
        series, numbers = checked[choice.taken[0].facts.uid], _numbers(choice)
        if 1 < len(numbers) < len(series.volumes):
            return _some(where, choice, series)
        for volume in series.volumes:
            if volume.stack.number in numbers or len(series.volumes) == 1:
                refusal = allowed.refusal(where, volume.findings, len(volume.stack.frames), target.dicom)
                if refusal:
                    return refusal
    return None


def _some(where: Path, choice: Choice, series: CheckedSeries) -> Refusal:
    return Refusal(
        where,
        found=f"{len(choice.taken)} of the {len(series.volumes)} volumes of {series.series.text}",
        needed="one volume, or all of a series",
        remedy="let the rules mean one of them (volume: ...)",
        code="several-volumes",
    )


def _numbers(choice: Choice) -> set[int]:
    return {max(one.facts.volume_number, 1) for one in choice.taken}


def _spoken(choice: Choice) -> str:
    """The series, and behind a slash its volume if it is one of several."""
    [first, *others] = [one.facts for one in choice.taken]
    return first.uid if others or not first.volume_number else f"{first.uid}/{first.volume_number}"
