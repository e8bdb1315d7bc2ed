"""Whether more can be taken in: what comes in is refused while there is still room for the results of what is here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from medseg.service.settings.folders import private
from medseg.service.settings.site import Site

GIB = 2**30


class Room:
    """Of a site's data folder. Safe to use from several threads.

    To add up a large folder takes seconds, so that it is done by `measure`, now and then; what comes in meanwhile is
    told by `took`.
    """

    def __init__(self, site: Site):
        self._data, self._keep = site.at(site.data), site.keep
        self._held = self._since = 0
        self.measure()

    def measure(self) -> None:
        """Add the folder up, if there is a quota."""
        if self._keep.quota_gib:
            before = self._since
            self._held = held_bytes(self._data)
            self._since -= before

    def took(self, size: int) -> None:
        """So many bytes have come in."""
        self._since += size

    def full(self) -> str:
        """Why nothing more can be taken in; empty if it can."""
        private(self._data)
        free = shutil.disk_usage(self._data).free / GIB
        if free < self._keep.free_gib:
            return f"{free:.3g} GiB are free on the disk, and {self._keep.free_gib:g} are to stay free"
        held = (self._held + self._since) / GIB
        if self._keep.quota_gib and held >= self._keep.quota_gib:
            return f"the data folder holds {held:.3g} GiB of its quota of {self._keep.quota_gib:g}"
        return ""


def held_bytes(folder: Path) -> int:
    """Of all files below a folder, each counted once, however many names it has."""
    found: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118 - a million of them
            except FileNotFoundError:  # it was on its way elsewhere
                continue
            found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())
