"""Which volume is which channel, guessed from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

SPELLINGS = {
    "t1ce": ("t1ce", "t1c", "t1gd", "t1 ce", "t1 gd", "t1 post", "t1 contrast", "t1w ce", "t1w gd", "ce t1"),
    "flair": ("flair", "t2f", "t2 flair", "t2w flair", "tirm"),
    "t1": ("t1", "t1n", "t1w", "t1 weighted", "mprage", "bravo"),
    "t2": ("t2", "t2w", "t2 weighted", "tse"),
    "adc": ("adc", "apparent diffusion"),
    "dwi": ("dwi", "diffusion", "b1000", "trace"),
    "ct": ("ct", "hu"),
    "pet": ("pet", "suv", "pt"),
}
"""What people call a kind of image, by the name that is compared."""


def match(channels: Sequence[str], volumes: Mapping[str, str], first: str = "") -> dict[str, str]:
    """A volume for each channel, none twice; channels without a likely volume are left out.

    Args:
        channels: names that the model gives them.
        volumes: name of each volume, by its id.
        first: id of the one that is shown now: it is taken for a model of one channel.
    """
    if len(channels) == 1 and first in volumes:
        return {channels[0]: first}
    scores = sorted(
        ((_likeness(channel, name), -number, channel, key) for channel in channels
         for number, (key, name) in enumerate(volumes.items())),
        key=lambda one: one[:2],
        reverse=True,
    )  # fmt: skip
    found: dict[str, str] = {}
    for score, _order, channel, key in scores:
        if score > 0 and channel not in found and key not in found.values():
            found[channel] = key
    if len(channels) == 1 and len(volumes) == 1 and not found:
        return {channels[0]: next(iter(volumes))}
    return found


def _likeness(channel: str, name: str) -> int:
    """The longest spelling of the channel that the name has; 0: none, or it is more likely to be another kind."""
    words = _words(name)
    own = _kind(_words(channel))
    if own is None:
        return len(channel) if _words(channel) in words else 0
    return _longest(own, words) if _kind(words) == own else 0


def _kind(words: str) -> str | None:
    """The kind of image whose spelling is the longest in it: `T2 FLAIR` is no T2."""
    best = max(SPELLINGS, key=lambda kind: _longest(kind, words))
    return best if _longest(best, words) else None


def _longest(kind: str, words: str) -> int:
    return max((len(spelling) for spelling in SPELLINGS[kind] if f" {spelling} " in words), default=0)


def _words(name: str) -> str:
    """In small letters, separated by single spaces, with one at each end."""
    return f" {' '.join(re.findall('[a-z0-9]+', name.lower()))} "
