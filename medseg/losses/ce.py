"""Cross entropy over all classes, background included; binary cross entropy for regions."""

from __future__ import annotations

from functools import partial

from medseg.losses import Loss, cross_entropy, deeply_supervised
from medseg.settings import Settings


class Options(Settings):
    pass


def build(options: Options, *, exclusive: bool) -> Loss:
    return deeply_supervised(partial(cross_entropy, exclusive=exclusive), exclusive=exclusive)
