"""Associations that are asked for, and those who want none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pynetdicom
import pytest
from pynetdicom import _config
from pynetdicom.sop_class import Verification

from medseg.refusal import Refusal
from medseg.service.association import Rejected, Unanswered, associated
from medseg.service.delivery.dicom import StoreWay
from medseg.service.delivery.way import Again
from medseg.service.intake.query import Archive
from medseg.service.operations.checks import network
from medseg.service.settings.site import Site
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


@contextlib.contextmanager
def rejecting(rejection: bytes) -> Iterator[int]:
    """The port of one that answers whoever comes with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):  # of the port that is closed in the end
                while True:
                    with server.accept()[0] as connection:
                        connection.recv(2**16)
                        connection.sendall(rejection)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=60)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of pynetdicom's
@pytest.mark.parametrize("level", ["none", "standard"])
def test_a_rejection_for_a_reason_that_is_none_is_quoted(level, monkeypatch):
    monkeypatch.setattr(_config, "LOG_HANDLER_LEVEL", level)
    entity = asking()
    entity.acse_timeout = 0.5
    told = pytest.raises(Rejected, match="source 9, reason 8, which the standard does not know")
    with rejecting(b"\x03\x00\x00\x00\x00\x04\x00\x01\x09\x08") as port, told:
        associated(entity, "127.0.0.1", port, ae_title="ARCHIVE")


def test_who_hangs_up_may_not_know_the_titles(tmp_path):
    with rejecting(b"") as port:
        one = {"kind": "dicom", "host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
        site = Site.model_validate({"sources": {"pacs": one}, "receivers": {"pacs": one}, "folder": tmp_path})
        with pytest.raises(Refusal, match="AE titles"):
            Archive(site, "pacs", site.sources["pacs"]).find({"PatientID": "P1"})
        way = StoreWay(site, site.receivers["pacs"])
        with pytest.raises(Again, match="AE titles"), way._association([]):
            pass
        assert ["knows MEDSEG" in finding.remedy for finding in network.others(site)] == [True, True]
