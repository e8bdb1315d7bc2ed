"""medseg get"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[str, typer.Argument(help="Entry of the catalogue. [default: list them all]")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the file.")] = Path("weights"),
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence without being asked.")] = False,
    url: Annotated[str | None, typer.Option(help="Another address of the same file.")] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="For programs: what the catalogue says of one entry, or of all; no download.")
    ] = False,
) -> None:
    """Download published weights: shows their licence, asks, and checks what arrives.

    The only command that opens a connection. After a cut, the same command goes on where it was. Proxies are taken from
    HTTPS_PROXY, HTTP_PROXY and NO_PROXY. What comes is brought in by `medseg import-weights`.
    """
    from medseg import catalogue, download, progress
    from medseg.refusal import Refusal

    if json_:
        chosen = {name: catalogue.find(name)} if name else catalogue.entries()
        print(json.dumps([entry.to_json(each) for each, entry in chosen.items()], ensure_ascii=False, indent=1))
        return
    if not name:
        for each, entry in catalogue.entries().items():
            print(f"{each:<26} {entry.about}")
        return
    entry = catalogue.find(name)
    print(f"{name}: {entry.about}")
    for what, text in entry.facts().items():
        print(f"  {what:<12} {text}")
    address = url or entry.url
    if address is None:
        raise Refusal(
            name,
            found="no direct address",
            needed="one",
            remedy=f"download {entry.file} from {entry.source} by hand, then `medseg import-weights {entry.file} --as "
            f"{name} --out RUN`; or give its address with --url",
        )
    target = out / entry.file
    if target.exists():
        raise Refusal(target, found="the file there already", needed="none", remedy="use it, or choose another --out")
    if not yes and not sys.stdin.isatty():
        raise Refusal(
            name,
            found="nobody to ask whether this licence is accepted",
            needed="a terminal, or --yes",
            remedy="read it at the source, then say --yes",
        )
    if not yes:
        typer.confirm(f"Download from {address} under this licence?", abort=True)
    with progress.share("downloading, MiB") as show:
        digest = download.fetch(address, target, sha256=entry.sha256, show=show)
    known = "as the catalogue says" if entry.sha256 else "no checksum is known to compare it with"
    print(f"{target}: sha256 {digest}, {known}", file=sys.stderr)
    print(f"next: medseg import-weights {target} --as {name} --out runs/{name}", file=sys.stderr)
    print(target)
