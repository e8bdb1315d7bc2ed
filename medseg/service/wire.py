"""Associations with strangers: each wait has an end, and what makes no sense ends them, without noise.

pynetdicom waits for the rest of what a sender has begun for as long as the sender likes, and reads a PDU of any length.
"""

from __future__ import annotations

import io
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import AssociationSocket

LONGEST_PDU = 2**20
"""Bytes; a data PDU is at most what was allowed to the sender, and no request is longer than this."""
LONGEST_COMMAND = 2**16
"""Bytes."""
LONGEST_LIST = 2**24
"""Bytes of a data set that stays in memory: what storage commitment speaks of."""
ASK_S = 10.0
"""To ask for an association."""
SLOWEST_BYTES_S = 1024
"""Whoever sends no message to its end may go on as long as this comes in."""
TICK_S = 0.5
INVALID = "Evt19"
"""To pynetdicom's state machine (DICOM PS3.8 9.2): something that is no valid PDU; it aborts the association."""

UNASKED, LOST = "no association was asked for", "lost"
"""How a connection has ended of which nothing else is known: before an association, and within one."""


@dataclass(eq=False)
class Visit:
    """A connection, from its first byte to its end.

    Attributes:
        association: what pynetdicom makes of it; None before that, or if it never does.
        asked: whether an association was asked for.
        accepted: whether that was let in.
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
    asked: bool = False
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
            return
        idle_s = self.idle_s if self.accepted else min(self.idle_s, ASK_S)
        if time.monotonic() - self._mark > idle_s:
            self.outcome = f"ended: nothing complete within {idle_s:g} s"
            raise TimeoutError(self.outcome)

    @property
    def gone(self) -> bool:
        """Whether nothing of it runs any more."""
        made = self.association
        return self.over or bool(made and made.ident and not (made.is_alive() or made.dul.is_alive()))


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


class Parts(io.BytesIO):
    """The data set of a message, put together in memory, which has an end."""

    def __init__(self, message: Any, association: Any):
        super().__init__()

    def write(self, data: Any) -> int:
        """
        Raises:
            ValueError: more than anybody has to read to its end.
        """
        if self.tell() + len(data) > LONGEST_LIST:
            raise ValueError("a list that is too long")
        return super().write(data)

    def discard(self) -> None:
        """Let go of what there is."""


class Provider(DIMSEServiceProvider):
    """Puts messages together; what is no message ends the association.

    Args:
        parts: makes what takes in the data set of a message of an association.

    Attributes:
        visit: whose they are.
        message: the one that is being received.
    """

    message: Any

    def __init__(self, association: Any, visit: Visit, parts: Callable[[Any, Any], Parts]):
        super().__init__(association)
        self.visit, self._parts, self._heard = visit, parts, 0

    def get_msg(self, block: bool = False) -> Any:
        """The next message; who waits for it waits for as long as something of it comes, and not for all of it, which
        pynetdicom gives as long as it gives a word."""
        while True:
            heard = self._heard
            try:
                return self.msg_queue.get(block, self.dimse_timeout)
            except queue.Empty:  # and not that the association has ended, for which there is a message of its own
                if not block or self._heard == heard:
                    return None, None

    def receive_primitive(self, primitive: Any) -> None:
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = self._parts(self.message, self.assoc)
        message = self.message
        self.visit.receiving = True
        self._heard += 1
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
        if self.message is not None and isinstance(self.message.data_set, Parts):
            self.message.data_set.discard()


def never_began(association: Any) -> bool:
    """Whether an association that is asked for was ended before it had begun, which it then knows."""
    if isinstance(association.requestor.primitive, A_P_ABORT):
        association.is_aborted = True
    return bool(association.is_aborted)
