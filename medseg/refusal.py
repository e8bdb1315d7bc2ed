"""The one exception for everything a user can cause: which file, what was found, what was needed, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Refusal(Exception):
    """Input, recipe or machine state that medseg will not work with.

    The command line prints it without a traceback and exits with a non-zero code.

    Args:
        where: file, folder or recipe key that is at fault.
        found: what is there.
        needed: what medseg needs instead.
        remedy: what the user can do about it.
        code: for programs that count what is refused, such as missing-slices; `refused` where no finer one is given.

    Example:
        >>> print(Refusal("scan.nii.gz", found="two volumes", needed="one volume", remedy="split the file"))
        scan.nii.gz: found two volumes; needed one volume. What to do: split the file.
    """

    def __init__(self, where: str | Path, *, found: str, needed: str, remedy: str, code: str = "refused"):
        self.where, self.found, self.needed, self.remedy, self.code = str(where), found, needed, remedy, code
        super().__init__(f"{self.where}: found {found}; needed {needed}. What to do: {remedy}.")

    def __reduce__(self) -> tuple[Any, ...]:  # worker processes send exceptions by pickle; keyword arguments need this
        return _rebuild, (type(self), self.where, self.found, self.needed, self.remedy, self.code)


def _rebuild(kind: type[Refusal], where: str, found: str, needed: str, remedy: str, code: str) -> Refusal:
    return kind(where, found=found, needed=needed, remedy=remedy, code=code)
