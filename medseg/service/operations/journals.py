"""The journal that a person means: of a site, of a batch's folder, a file, or a database by URL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.refusal import Refusal
from medseg.service.journal import Journal
from medseg.service.journal.states import STATES, State
from medseg.service.settings import site as sites

IN_FOLDER = "journal.sqlite"


def opened(where: str) -> Journal:
    """Open a journal that there is; none is made.

    Args:
        where: site.yaml, a folder of results by `medseg batch`, a file, or postgresql://...

    Raises:
        Refusal: there is none.
    """
    if "://" in where:
        return Journal(where)
    path = Path(where)
    if path.is_dir():
        path = path / IN_FOLDER
    elif path.suffix.lower() in (".yaml", ".yml"):
        address = sites.load(path).journal_at
        if "://" in address:
            return Journal(address)
        path = Path(address)
    if not path.is_file():
        raise Refusal(
            path,
            found="no journal",
            needed="a site.yaml, the folder of a `medseg batch`, a journal's file, or postgresql://...",
            remedy="check the path; a journal comes with the first study, or the first batch",
        )
    return Journal(path)


def state(word: str, among: Sequence[State] = STATES) -> State:
    """A state by the name that a person gives it.

    Raises:
        Refusal: there is none of this name.
    """
    for one in among:
        if word == one:
            return one
    raise Refusal("--state", found=f"'{word}'", needed=f"one of {', '.join(among)}", remedy="correct it")
