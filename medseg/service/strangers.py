"""What addresses did that they may do only so often: anybody can do it as many times as there is time for."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

OFTEN, WITHIN_S = 10, 60.0
"""More of it from an address within so long is too much."""
KEPT = 10_000
"""Most addresses that are remembered; the oldest go first."""


class Counted:
    """Counts something by address; all of one IPv6 network count together. Safe to use from several threads.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float]):
        self._clock, self._by_address = clock, OrderedDict[str, deque[float]]()
        self._lock = threading.Lock()

    def add(self, address: str) -> None:
        """It was done once more."""
        with self._lock:
            self._by_address.setdefault(_network(address), deque(maxlen=OFTEN)).append(self._clock())
            self._by_address.move_to_end(_network(address))
            while len(self._by_address) > KEPT:
                self._by_address.popitem(last=False)

    def wait_s(self, address: str) -> float:
        """How long until it may be done again from there; 0: now."""
        with self._lock:
            moments = self._by_address.get(_network(address), deque[float]())
            return max(0.0, moments[0] + WITHIN_S - self._clock()) if len(moments) == OFTEN else 0.0

    def too_often(self, address: str) -> bool:
        """Whether it was done too often from there; if not, this is once more."""
        if self.wait_s(address):
            return True
        self.add(address)
        return False


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
