"""What endpoints work with."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from medseg.service.intake.store import Store
from medseg.service.journal import Journal
from medseg.service.settings.site import Site
from medseg.service.web.feed import Feed
from medseg.service.web.submit import Desk


@dataclass(frozen=True)
class Room:
    """Of one running service."""

    site: Site
    journal: Journal
    store: Store
    desk: Desk
    feed: Feed


def of(request: Request) -> Room:
    room: Room = request.app.state.room
    return room
