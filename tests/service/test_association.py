"""Associations that are asked for, and those who want none."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pynetdicom
import pytest
from pynetdicom.sop_class import Verification

from medseg.service.association import Rejected, Unanswered, associated
from tests.service.site import until


class Late(threading.Event):
    """Of a thread that looks at its connection when the answer has come, and the connection is gone again."""

    def __init__(self, socket):
        super().__init__()
        self._socket = socket

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(timeout)
        until(lambda: not self._socket._is_connected)
        return True


@pytest.fixture
def archive() -> Iterator[int]:
    """The port of one that lets in only who calls it by its name."""
    entity = pynetdicom.AE("ARCHIVE")
    entity.require_called_aet = True
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    yield server.socket.getsockname()[1]
    server.shutdown()


def asking() -> pynetdicom.AE:
    entity = pynetdicom.AE("MEDSEG")
    entity.add_requested_context(Verification)
    return entity


def test_one_that_is_wanted(archive):
    association = associated(asking(), "127.0.0.1", archive, ae_title="ARCHIVE")
    assert association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize("late", [False, True])
def test_a_rejection_is_heard_however_fast_the_other_side_hangs_up(archive, late, monkeypatch):
    create = pynetdicom.AE._create_socket

    def created(*given):
        socket = create(*given)
        if late:
            socket._ready = Late(socket)
        return socket

    monkeypatch.setattr(pynetdicom.AE, "_create_socket", created)
    with pytest.raises(Rejected, match=r"Called AE title not recognised \(Rejected \(Permanent\)\)"):
        associated(asking(), "127.0.0.1", archive, ae_title="OTHER")


def test_nobody_there(archive):
    with pytest.raises(Unanswered):
        associated(asking(), "127.0.0.1", 1, ae_title="ARCHIVE")
