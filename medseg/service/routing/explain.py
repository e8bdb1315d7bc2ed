"""What routes say of a study, in words for the record and for people, and in types that JSON has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medseg.service.routing.table import RouteVerdict


def sentence(verdict: RouteVerdict) -> str:
    """What becomes of a study on one route."""
    name = f"route {verdict.target.route.name}"
    if verdict.refusal:
        return f"{name}: refused ({verdict.refusal.code}): {verdict.refusal}"
    return f"{name}: {'' if verdict.series else 'not wanted: '}{verdict.because}"


def account(verdicts: Sequence[RouteVerdict]) -> str:
    """What all routes say, a line each; where no route wants the study, each series with the reason."""
    if not verdicts:
        return "the site has no routes"
    lines = []
    for verdict in verdicts:
        lines.append(sentence(verdict))
        if not any(one.wanted for one in verdicts):
            lines += reasons(verdict)
    return "\n".join(lines)


def reasons(verdict: RouteVerdict) -> list[str]:
    """Of every series what the route's rules say, the best first, a line each."""
    return [
        f"  {f'{channel}: ' if channel else ''}{'takes ' if one in choice.taken else ''}{one.facts.text}: {one.reason}"
        for channel, choice in verdict.choices.items()
        for one in choice.verdicts
    ]


def plain(verdict: RouteVerdict) -> dict[str, Any]:
    """All of it, for programs."""
    route, refusal = verdict.target.route, verdict.refusal
    return {
        "route": route.name,
        "wanted": verdict.wanted,
        "because": verdict.because,
        "refused": None if refusal is None else {"code": refusal.code, "reason": str(refusal)},
        "model": None if verdict.target.model is None else str(verdict.target.model),
        "parameters": verdict.parameters,
        "send_to": list(route.send_to),
        "hold": list(route.hold),
        "series": [
            {
                "channel": channel,
                "uid": one.facts.uid,
                "volume": one.facts.volume_number,
                "what": one.facts.text,
                "taken": one in choice.taken,
                "fits": one.fits,
                "score": one.score,
                "reason": one.reason,
            }
            for channel, choice in verdict.choices.items()
            for one in choice.verdicts
        ],
    }
