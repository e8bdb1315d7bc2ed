"""The command line. Each file in `medseg/commands/` is one verb; its `command` function is what runs."""

from __future__ import annotations

import errno
import functools
import importlib
import io
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import medseg
from medseg import cores
from medseg.atomic import DISK_FULL
from medseg.interrupts import Terminated
from medseg.refusal import Refusal

REFUSED, INTERRUPTED, TERMINATED = 2, 130, 143
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
"""Error numbers of a path that may not be used so: no permission, a disk to read from only, a file for a folder."""


def _show_version(asked: bool) -> None:
    if asked:
        print(f"medseg {medseg.__version__}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Medical image segmentation: from DICOM or NIfTI to labels in the scan's own geometry."""


def application() -> typer.Typer:
    """Every verb, in the order of their names; no heavy package is imported for it."""
    app = typer.Typer(
        name="medseg",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(common)
    _add(app, Path(__file__).parent / "commands", "medseg.commands")
    return app


def _add(app: typer.Typer, folder: Path, package: str) -> None:
    """Each file in `folder` is a verb, each folder in it a group of verbs, explained by its docstring."""
    for path in sorted(folder.glob("[a-z]*")):
        name, module = path.stem.replace("_", "-"), f"{package}.{path.stem}"
        if path.suffix == ".py":
            verb = importlib.import_module(module).command
            app.command(name=name, short_help=_first_sentence(verb))(_interruptible(verb))
        elif path.is_dir():
            verbs = importlib.import_module(module)
            group = typer.Typer(help=verbs.__doc__, no_args_is_help=True, rich_markup_mode=None)
            _add(group, path, module)
            app.add_typer(group, name=name, short_help=_first_sentence(verbs))


def _first_sentence(told: object) -> str:
    """Of the docstring, whole: what the list of verbs would take of it by itself is cut off after some words."""
    return re.split(r"\.\s|\.$|\n\n", (told.__doc__ or "").strip(), maxsplit=1)[0]


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """Ctrl-C is said in a line (SIGTERM, too, where a verb takes it so); versions of typer differ in what they do."""

    @functools.wraps(verb)
    def run(*args: Any, **options: Any) -> None:
        try:
            verb(*args, **options)
        except KeyboardInterrupt as stop:
            print("stopped; no unfinished file was left under a final name", file=sys.stderr)
            raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None

    return run


def main() -> None:
    """Run the command line; what a user can mend is one message and exit code 2, without a traceback."""
    cores.share()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("medseg").setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # descriptions and file names hold what a terminal may not know
            stream.reconfigure(errors="backslashreplace")
    try:
        application()()
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        sys.exit(REFUSED)
    except OSError as error:
        if error.errno not in (*DISK_FULL, *CLOSED):
            raise
        print(f"error: {(_full_disk if error.errno in DISK_FULL else _closed)(error)}", file=sys.stderr)
        sys.exit(REFUSED)


def _full_disk(error: OSError) -> Refusal:
    return Refusal(
        error.filename or "disk",
        found=f"that it cannot be written ({error.strerror})",
        needed="room on the disk",
        remedy="free some space, then run the same command again; files under their final names are complete",
    )


def _closed(error: OSError) -> Refusal:
    return Refusal(
        error.filename or "disk",
        found=error.strerror or "an error of the system",
        needed="a place that may be read and written, and a folder where a folder is needed",
        remedy="check the path and its permissions, or choose another",
    )


if __name__ == "__main__":
    main()
