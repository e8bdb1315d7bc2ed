"""Associations that this program asks for."""

from __future__ import annotations

from typing import Any

from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_RJ

REJECTION = b"\x03"
"""Type of an A-ASSOCIATE-RJ (DICOM PS3.8 9.3.4)."""


class Rejected(Exception):
    """The other side wants none; in its words."""


class Unanswered(Exception):
    """Nobody answers there, or not as the standard has it: some hang up on AE titles that they do not know."""


def associated(entity: Any, host: str, port: int, *, handlers: list[Any] | None = None, **settings: Any) -> Any:
    """An established association with whoever listens there.

    pynetdicom takes an answer for a missing connection where the other side rejects and hangs up before the thread
    that asked has looked, and comes to grief over a reason that the standard does not know: so the rejection is kept as
    it comes in, before anything else reads it.

    Args:
        entity: a pynetdicom.AE.
        handlers, settings: as `AE.associate` has them.

    Raises:
        Rejected, Unanswered
    """
    rejections: list[A_ASSOCIATE_RJ] = []

    def heard(event: Any) -> None:
        if event.data[:1] == REJECTION:
            rejections.append(A_ASSOCIATE_RJ())
            rejections[-1].decode(event.data)

    every = [*(handlers or []), (evt.EVT_DATA_RECV, heard)]
    association = entity.associate(host, port, evt_handlers=every, **settings)
    if association.is_established:
        return association
    for one in rejections:
        raise Rejected(_words(one))
    raise Unanswered


def _words(rejection: A_ASSOCIATE_RJ) -> str:
    try:
        return f"{rejection.reason_str or 'it does not say why'} ({rejection.result_str})"
    except ValueError:
        return f"source {rejection.source}, reason {rejection.reason_diagnostic}, which the standard does not know"
