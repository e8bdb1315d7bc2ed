"""Which series of a study is meant: rules, applied to what the headers say, and the reason in words.

Nothing here reads a file, so that the same rules can be tried, tested, or used to route studies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.dicom import vocabulary
from medseg.dicom.conditions import check
from medseg.dicom.facts import Facts
from medseg.dicom.settings import Conditions, SeriesRules, Tie
from medseg.refusal import Refusal


@dataclass(frozen=True)
class Verdict:
    """What the rules say about one series, in words.

    Attributes:
        against: why it is not taken; empty if it fits.
        met: what it had to be, and is.
        points: the preferences that hold, with the score of each.
        denied: whether the header says otherwise than the rules want, and is not merely silent.
    """

    facts: Facts
    against: tuple[str, ...]
    met: tuple[str, ...]
    points: tuple[tuple[str, float], ...]
    denied: bool = False

    @property
    def fits(self) -> bool:
        return not self.against

    @property
    def score(self) -> float:
        return round(sum(score for _, score in self.points), 9)  # 0.1 + 0.2 is no more than 0.3

    @property
    def reason(self) -> str:
        if self.against:
            return "; ".join(self.against)
        points = "; ".join(f"{what} {score:+g}" for what, score in self.points)
        parts = [", ".join(self.met), f"score {self.score:g} ({points})" if points else ""]
        return "; ".join(part for part in parts if part) or "nothing is asked"


@dataclass(frozen=True)
class Choice:
    """Verdicts on all series of a study, the best first.

    Attributes:
        taken: the series that is meant, or several volumes of it; empty if there is none.
        because: how it was decided, or why nothing is taken.
    """

    verdicts: tuple[Verdict, ...]
    taken: tuple[Verdict, ...]
    because: str

    @property
    def code(self) -> str:
        """Of a refusal where nothing is taken: whether too many fit, or none."""
        return "several-series" if any(verdict.fits for verdict in self.verdicts) else "no-series"

    def refusal(self, where: Path) -> Refusal:
        """For a study of which nothing is taken: each series with the reason."""
        lines = "".join(f"\n  {verdict.facts.text}: {verdict.reason}" for verdict in self.verdicts)
        return Refusal(
            where,
            found=f"{self.because}:{lines}\n",
            needed="one series that fits the rules best (dicom.select in the recipe)",
            remedy="name a series with --series (series= in Python), or change the rules",
            code=self.code,
        )


def choose(rules: SeriesRules, series: Sequence[Facts]) -> Choice:
    """Judge every series, or volume of one; take the one that fits and has the highest score. Volumes of one series
    that are equally good are taken together.

    Nothing is taken if none fits, if the fitting ones are of several patients or studies, or if several series have
    the highest score and none of `rules.ties` decides. But the only scan among them is taken where its header is
    silent and does not say otherwise.
    """
    verdicts = tuple(sorted((judge(rules, facts) for facts in series), key=_rank))
    fitting = [verdict for verdict in verdicts if verdict.fits]
    for name, values in (
        ("patients", {one.facts.patient_id for one in fitting}),
        ("studies", {one.facts.study_uid for one in fitting}),
    ):
        if len(values) > 1:
            return Choice(verdicts, (), f"series of {len(values)} {name} that fit the rules")
    if not fitting:
        return _only(verdicts) or Choice(verdicts, (), f"none of {_counted(verdicts)} that fits the rules")
    best, how = [one for one in fitting if one.score == fitting[0].score], ""
    for tie in rules.ties:
        if _series(best) > 1:
            best, equal = _break(tie, best), len(best)
            how += f", {tie} than {equal - len(best)} of the same score" * (equal > len(best))
    if _series(best) > 1:
        return Choice(verdicts, (), f"{_series(best)} series that fit the rules equally well")
    others = [one for one in fitting if one not in best]
    next_best = f"; next {others[0].facts.text} with score {others[0].score:g}" if others else ""
    counted = f"{_counted(verdicts)}, of which {_series(fitting)} {'fits' if _series(fitting) == 1 else 'fit'}"
    because = f"{_names(best)}, chosen by the rules from {counted}: {best[0].reason}{how}{next_best}"
    return Choice((*best, *(one for one in verdicts if one not in best)), tuple(best), because)


def shared(choices: Mapping[str, Choice]) -> list[str]:
    """Channels of a study for which one series, or volume, is taken twice; empty if there are none."""
    takers: dict[tuple[str, int], list[str]] = {}
    for channel, choice in choices.items():
        for one in choice.taken:
            takers.setdefault((one.facts.uid, one.facts.volume_number), []).append(channel)
    return next((names for names in takers.values() if len(names) > 1), [])


def _only(verdicts: Sequence[Verdict]) -> Choice | None:
    """The only scan, unless its header says that it is another."""
    scans = tuple(one for one in verdicts if not one.facts.unfit)
    if _series(scans) != 1 or any(one.denied for one in scans):
        return None
    lacking = "; ".join(dict.fromkeys(one.reason for one in scans))
    because = f"{_names(scans)}, as the only scan; its header does not say all that the rules ask for: {lacking}"
    return Choice((*scans, *(one for one in verdicts if one not in scans)), scans, because)


def _names(verdicts: Sequence[Verdict]) -> str:
    return " and ".join(one.facts.text for one in verdicts)


def _counted(verdicts: Sequence[Verdict]) -> str:
    several = f" ({len(verdicts)} volumes)" if len(verdicts) > _series(verdicts) else ""
    return f"{_series(verdicts)} series{several}"


def _series(verdicts: Sequence[Verdict]) -> int:
    return len({one.facts.uid for one in verdicts})


def _rank(verdict: Verdict) -> tuple[Any, ...]:
    facts = verdict.facts
    number = int(facts.number) if facts.number.isdecimal() else 0
    return not verdict.fits, -verdict.score, number, facts.number, facts.uid, facts.volume_number


def _break(tie: Tie, best: list[Verdict]) -> list[Verdict]:
    """Those of equal score that a tie-breaker prefers; all where the headers do not say."""
    keys = [TIES[tie](one.facts) for one in best]
    if any(key is None for key in keys):
        return best
    return [one for one, key in zip(best, keys, strict=True) if key == (max if tie == "later" else min)(keys)]


TIES: dict[Tie, Callable[[Facts], Any]] = {
    "more slices": lambda facts: -facts.slices,
    "thinner": lambda facts: facts.spacing_mm,
    "earlier": lambda facts: facts.acquired or None,
    "later": lambda facts: facts.acquired or None,
}
"""What is compared; the smallest wins, but for the last."""


def judge(rules: SeriesRules, facts: Facts) -> Verdict:
    """What the rules say about one series."""
    if facts.unfit:
        return Verdict(facts, (f"no scan: {facts.unfit}",), (), ())
    against = []
    kind, how = kind_of(facts)
    if kind and kind not in rules.allow:
        against.append(f"{kind}, by {how}")
    wanted = check(rules.must, facts)
    lacking = [one for one in wanted if not one.holds]
    unwanted = [f"{met} (must not be)" for entry in rules.must_not if (met := _all(entry, facts))]
    return Verdict(
        facts,
        against=(*against, *(one.what for one in lacking), *unwanted),
        met=tuple(one.what for one in wanted if one.holds),
        points=tuple((met, wish.score) for wish in rules.prefer if (met := _all(wish, facts))),
        denied=bool(against or unwanted or any(not one.silent for one in lacking)),
    )


def _all(conditions: Conditions, facts: Facts) -> str:
    """What is met, in words, if all conditions hold; else nothing."""
    told = check(conditions, facts)
    return ", ".join(one.what for one in told) if all(one.holds for one in told) else ""


def kind_of(facts: Facts) -> tuple[str, str]:
    """Which of `vocabulary.KINDS` a series is and how that is told; both empty if none."""
    if facts.sop_class_uid.startswith(vocabulary.CAPTURES):
        return "capture", "its SOP class"
    for kind, (image_type, words) in vocabulary.KINDS.items():
        for value in facts.image_type:
            if vocabulary.found(image_type, value.lower()):
                return kind, f"image type {value}"
        word = vocabulary.found(words, vocabulary.plain(facts.name))
        if word:
            return kind, f"'{word}'"
    return "", ""
