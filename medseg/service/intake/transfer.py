"""What comes over an association, on its way to the disk: in bounded memory, in bounded time.

pynetdicom keeps a data set in memory, or in the system's folder for temporary files, without a limit on either; and it
waits for the rest of what a sender has begun for as long as the sender likes. Here a data set goes to the folder of
what is coming in as its parts arrive, and each wait has an end.
"""

from __future__ import annotations

import io
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.filewriter import write_file_meta_info
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dsutils import create_file_meta
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import AssociationSocket

from medseg.refusal import Refusal
from medseg.service.intake import head
from medseg.service.intake.store import too_large

log = logging.getLogger(__name__)

LONGEST_PDU = 2**20
"""Bytes; a data PDU is at most what the listener allows (`server.PDU_BYTES`), and no request is longer than this."""
LONGEST_COMMAND, LONGEST_LIST = 2**16, 2**24
"""Bytes of a command, and of a data set that is no object: a request for commitment."""
SLOWEST_BYTES_S = 1024
"""Whoever sends no message to its end may go on as long as this comes in."""
TICK_S = 0.5
LOOK_EVERY = 2**24
"""Bytes of an object after which it is looked whether there is still room."""
PART = ".part"
INVALID = "Evt19"
"""To pynetdicom's state machine (DICOM PS3.8 9.2): something that is no valid PDU; it aborts the association."""

UNASKED, LOST = "no association was asked for", "lost"
"""How a connection has ended of which nothing else is known: before an association, and within one."""


@dataclass(eq=False)
class Visit:
    """A connection, from its first byte to its end.

    Attributes:
        association: what pynetdicom makes of it; None before that, or if it never does.
        outcome: how it ended, in words.
        study: StudyInstanceUID of the last object that was taken.
        receiving: whether an object has begun and not ended.
        working: whether the sender waits for us.
        over: whether it has ended before it was an association.
    """

    address: str
    idle_s: float
    association: Any = None
    calling: str = ""
    accepted: bool = False
    outcome: str = UNASKED
    taken: int = 0
    refused: int = 0
    study: str = ""
    receiving: bool = False
    working: bool = False
    over: bool = False
    _mark: float = field(default_factory=time.monotonic)
    _bytes: int = 0

    def heard(self, count: int) -> None:
        """So many bytes have come."""
        self._bytes += count
        if self._bytes >= SLOWEST_BYTES_S * self.idle_s:
            self.progressed()

    def progressed(self) -> None:
        """Something is complete."""
        self._mark, self._bytes = time.monotonic(), 0

    def ended(self, how: str) -> None:
        """It has ended so, unless something worse was said of it before."""
        if self.outcome in (UNASKED, LOST):
            self.outcome = how

    def refuse_idle(self) -> None:
        """
        Raises:
            TimeoutError: nothing was completed for too long.
        """
        if self.working:
            self.progressed()
        elif time.monotonic() - self._mark > self.idle_s:
            self.outcome = f"ended: nothing complete within {self.idle_s:g} s"
            raise TimeoutError(self.outcome)


@dataclass(frozen=True)
class Limits:
    """
    Attributes:
        folder: where objects go as they come in.
        largest: bytes of an object.
        full: why there is no room, see `room.Room.full`.
    """

    folder: Path
    largest: int
    full: Callable[[], str]


class Socket(AssociationSocket):
    """A connection that is given up when its visitor is idle, and that reads no PDU of absurd length."""

    socket: Any

    def __init__(self, association: Any, connection: Any, visit: Visit):
        super().__init__(association, client_socket=connection)
        self._visit = visit
        connection.settimeout(TICK_S)

    def recv(self, nr_bytes: int) -> bytearray:
        """As many bytes as asked for, or fewer if the connection has ended.

        Raises:
            OSError: too many are asked for, or they do not come.
        """
        try:
            if nr_bytes > LONGEST_PDU:
                self._visit.outcome = f"ended: a PDU of {nr_bytes} bytes"
                raise OSError(self._visit.outcome)
            return self._received(nr_bytes)
        except OSError:  # nothing more is read, whatever pynetdicom does next
            self._shutdown_socket()
            self.socket, self._is_connected = None, False
            raise

    def _received(self, nr_bytes: int) -> bytearray:
        found = bytearray(nr_bytes)
        left = memoryview(found)
        while left:
            self._visit.refuse_idle()
            try:
                count = self.socket.recv_into(left)
            except TimeoutError:
                continue
            if not count:
                return found[: nr_bytes - len(left)]
            self._visit.heard(count)
            left = left[count:]
        return found


class Machine(StateMachine):
    """pynetdicom's states of an association, with two ends more: what has no place in a state, as after an abort that
    crosses an answer, ends the connection in silence, and not its thread with an error; and who goes before there is an
    association is not waited for."""

    def do_action(self, event: str) -> None:
        try:
            super().do_action(event)
            if self.current_state == "Sta1" and self.dul.assoc.requestor.primitive is None:
                self.dul.to_user_queue.put(A_P_ABORT())
        except Exception as error:
            self.dul.assoc.dimse.visit.ended(f"ended: {event} out of place ({type(error).__name__})")
            if self.dul.socket:
                self.dul.socket._shutdown_socket()
            self.dul.kill_dul()


class Spool(io.BytesIO):
    """The data set of a message: that of a C-STORE goes into a file, another stays in memory.

    It is the `data_set` of a message of pynetdicom, which writes each fragment into it. Once something is wrong with an
    object, the rest of it goes nowhere, so that its sender can be told and the objects after it are still taken.
    """

    def __init__(self, message: Any, association: Any, limits: Limits):
        super().__init__()
        self._message, self._association, self._limits = message, association, limits
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = self._looked = 0
        self._wrong: Refusal | None = None

    def write(self, data: Any) -> int:
        """
        Raises:
            ValueError: more than anybody has to read to its end.
        """
        self._size += len(data)
        if not isinstance(self._message, C_STORE_RQ):
            if self._size > LONGEST_LIST:
                raise ValueError("a list that is too long")
            return super().write(data)
        if self._size > 2 * self._limits.largest:
            raise ValueError("an object far larger than any may be")
        try:
            self._look()
            if self._file and not self._wrong:
                self._file.write(data)
        except OSError as error:
            self._wrong = _no_room(error.strerror or "the disk takes no more")
        except Refusal as refusal:
            self._wrong = refusal
        if self._wrong:
            self.discard()
        return len(data)

    def whole(self) -> Path:
        """The file, once the message is complete.

        Raises:
            Refusal: it could not be taken.
        """
        if self._wrong:
            raise self._wrong
        if not self._file or not self._path:
            raise Refusal("C-STORE", found="no data set", needed="one", remedy=head.REMEDY, code="no-dicom")
        self._file.close()
        return self._path

    def discard(self) -> None:
        """Let go of what there is."""
        if self._file and self._path:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _look(self) -> None:
        if self._wrong:
            return
        if self._size > self._limits.largest:
            raise too_large("C-STORE", self._size, self._limits.largest)
        if not self._file or self._size - self._looked > LOOK_EVERY:
            self._looked = self._size
            if why := self._limits.full():
                raise _no_room(why)
        if not self._file:
            self._begin()

    def _begin(self) -> None:
        """The file, with what stands before a data set (DICOM PS3.10 7.1)."""
        command = self._message.command_set
        uids = [str(command.get(name) or "") for name in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")]
        syntax = [
            one.transfer_syntax[0]
            for one in self._association.accepted_contexts
            if one.context_id == self._message.context_id
        ]
        if not syntax or not all(map(head.is_uid, uids)):
            raise Refusal("C-STORE", found="a command with bad UIDs", needed="UIDs", remedy=head.REMEDY, code="bad-uid")
        self._path = self._limits.folder / f"{uuid.uuid4().hex}{PART}"
        self._file = self._path.open("wb", buffering=0)
        meta = create_file_meta(sop_class_uid=uids[0], sop_instance_uid=uids[1], transfer_syntax=syntax[0])
        start = io.BytesIO(bytes(128) + b"DICM")
        start.seek(0, io.SEEK_END)
        write_file_meta_info(start, meta)
        self._file.write(start.getvalue())


class Provider(DIMSEServiceProvider):
    """Puts messages together, with `Spool` for their data sets; what is no message ends the association.

    Attributes:
        visit: whose they are.
        message: the one that is being received.
    """

    message: Any

    def __init__(self, association: Any, limits: Limits, visit: Visit):
        super().__init__(association)
        self.visit, self._limits = visit, limits

    def receive_primitive(self, primitive: Any) -> None:
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = Spool(self.message, self.assoc, self._limits)
        message = self.message
        self.visit.receiving = True
        try:
            super().receive_primitive(primitive)
            if message.encoded_command_set.tell() > LONGEST_COMMAND:
                raise ValueError("a command that is too long")
        except Exception as error:  # whatever a parser makes of what a stranger sends
            self.visit.outcome = f"ended: no valid message ({type(error).__name__})"
            self.dul.event_queue.put(INVALID)
            return
        if self.message is None:
            self.visit.receiving = False
            self.visit.progressed()

    def discard(self) -> None:
        """Let go of a message that will not come to its end."""
        if self.message is not None and isinstance(self.message.data_set, Spool):
            self.message.data_set.discard()


def _no_room(why: str) -> Refusal:
    return Refusal("C-STORE", found=why, needed="room", remedy="make room, then send it again", code="no-room")
