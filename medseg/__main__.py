"""The command line. Each file in `medseg/commands/` is one verb; its `command` function is what runs."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

import typer

from medseg.refusal import Refusal

REFUSED, INTERRUPTED = 2, 130


def application() -> typer.Typer:
    """Every verb, in the order of their names; no heavy package is imported for it."""
    app = typer.Typer(
        name="medseg",
        help="Medical image segmentation: from DICOM or NIfTI to labels in the scan's own geometry.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for file in sorted((Path(__file__).parent / "commands").glob("[a-z]*.py")):
        module = importlib.import_module(f"medseg.commands.{file.stem}")
        app.command(name=file.stem)(module.command)
    return app


def main() -> None:
    """Run the command line; what a user can mend is one message and exit code 2, without a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("medseg").setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)
    try:
        application()()
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        print("stopped; no unfinished file was left under a final name", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
