"""Orders for the real service, and what of them is left."""

from __future__ import annotations

import itertools
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from MedSegLib.remote import Remote
from MedSegLib.service.call import Limits
from MedSegLib.work import Order
from tests.slicer.heard import TOKEN
from tests.slicer.serving import Installation, noise

WAIT_S = 120
SOON = Limits(connect=2, silence=3, patience=2, pause=0.5)
NUMBERS = itertools.count()


def order(folder: Path, size: int = 24, *, model: str = "abdomen", seed: int | None = None, **more: Any) -> Order:
    """For a scan that no other test has sent."""
    number = next(NUMBERS) + 1000
    own = folder / f"run {number}"
    own.mkdir()
    scan = noise(folder / f"scän {number}.nii.gz", size, number if seed is None else seed)
    return Order("Müller^Anna", model, (("image", scan),), own, **more)


def asked(site: Installation, path: str) -> Any:
    request = urllib.request.Request(
        f"{site.address}/api/v1/{path}", headers={"Authorization": f"Bearer {site.tokens['admin']}"}
    )
    trust = ssl.create_default_context(cafile=str(site.authority))
    with urllib.request.urlopen(request, timeout=WAIT_S, context=trust) as answer:
        return json.load(answer)


def remote(site: Installation, who: str = "submit", **more: Any) -> Remote:
    return Remote(more.pop("address", site.address), site.tokens[who], **{"authority": site.authority, **more})


def unknown(address: str, **more: Any) -> Remote:
    """With a token that no service knows."""
    return Remote(address, TOKEN, limits=SOON, **more)


def left(one: Order) -> list[Path]:
    return list(one.folder.iterdir())
