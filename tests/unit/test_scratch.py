"""Arrays on disk that several threads make and let go of."""

from __future__ import annotations

import threading
import weakref

import numpy as np

from medseg import scratch


def test_an_array_may_be_made_while_all_are_let_go(tmp_path, monkeypatch):
    held = []

    def make() -> None:
        with scratch.on_disk(tmp_path, above=0):
            held.append(scratch.zeros((1, 4, 4, 4), np.uint8))

    class Slow(weakref.WeakSet):
        """Another thread wants to make an array when half of them have been seen."""

        def __iter__(self):
            for number, one in enumerate(super().__iter__()):
                if number == 1:
                    maker.start()
                    maker.join(timeout=0.2)  # it has to wait
                yield one

    monkeypatch.setattr(scratch, "_maps", Slow())
    maker = threading.Thread(target=make)
    make()
    make()
    scratch.let_go_all()
    maker.join()
    assert len(held) == 3
