"""Associations that this program asks for."""

from __future__ import annotations

from typing import Any

from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_RJ


class Rejected(Exception):
    """The other side wants none; in its words."""


class Unanswered(Exception):
    """Nobody answers there, or not as the standard has it."""


def associated(entity: Any, host: str, port: int, *, handlers: list[Any] | None = None, **settings: Any) -> Any:
    """An established association with whoever listens there.

    pynetdicom takes an answer for a missing connection where the other side rejects and hangs up before the thread
    that asked has looked: so the rejection is kept as it comes in.

    Args:
        entity: a pynetdicom.AE.
        handlers, settings: as `AE.associate` has them.

    Raises:
        Rejected, Unanswered
    """
    rejections: list[A_ASSOCIATE_RJ] = []

    def heard(event: Any) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append(event.pdu)

    every = [*(handlers or []), (evt.EVT_PDU_RECV, heard)]
    association = entity.associate(host, port, evt_handlers=every, **settings)
    if association.is_established:
        return association
    for one in rejections:
        raise Rejected(f"{one.reason_str or 'it does not say why'} ({one.result_str})")
    raise Unanswered
