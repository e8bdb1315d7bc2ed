"""What may stand between a program and a service, or in its place: slow, cut off, or talking nonsense."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TLS_RECORD = b"\x16\x03"
Reply = Callable[[str, str], "bytes | tuple[int, Any]"]
"""Method and path -> all that is sent, or a status and what is sent as JSON."""


class Road:
    """Connections to `port` are passed on to `target`.

    Attributes:
        open: cleared: nothing gets on, in either direction, and no connection ends.
        limit: bytes that a client may send on all connections together before all are cut; None: as many as it likes.
        late: these bytes are all passed on, and only what is answered to them is lost.
        delay_s: before each piece is passed on.
    """

    def __init__(self, target: int):
        self.open = threading.Event()
        self.open.set()
        self.limit: int | None = None
        self.late = False
        self.delay_s = 0.0
        self._target, self._ends = target, list[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End whatever is open."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
        self.open.set()
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                came, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(came,), daemon=True).start()

    def _serve(self, came: socket.socket) -> None:
        with contextlib.suppress(OSError), came, socket.create_connection(("127.0.0.1", self._target)) as gone:
            self._ends += [came, gone]
            back = threading.Thread(target=self._pump, args=(gone, came, False), daemon=True)
            back.start()
            self._pump(came, gone, True)
            back.join()

    def _pump(self, one: socket.socket, other: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while block := one.recv(65536):
                self.open.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                if self.limit is not None and counted:
                    self.limit -= len(block)
                if self.limit is not None and self.limit < 0 and counted != self.late:
                    self.limit = None
                    self.cut()
                    return
                other.sendall(block)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


@contextmanager
def road(target: int) -> Iterator[Road]:
    made = Road(target)
    try:
        yield made
    finally:
        made.close()


@dataclass
class Stranger:
    """Something that answers at a port.

    Attributes:
        heard: requests, with their headers and without their content.
        bodies: what came with those that had content.
        released: unless it is set, what has been said stays open.
    """

    port: int
    heard: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def until(self, true: Callable[[str], object], limit_s: float = 10) -> None:
        """Wait for a request of which it is true."""
        end = time.monotonic() + limit_s
        while not any(map(true, self.heard)):
            assert time.monotonic() < end, self.heard
            time.sleep(0.02)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def stranger(reply: Reply, *, drip: Sequence[bytes] = (), hold: bool = False) -> Iterator[Stranger]:
    """
    Args:
        hold: end no connection.
        drip: sent after the reply, again and again, until nobody listens.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    made = Stranger(listening.getsockname()[1])

    def serve(came: socket.socket) -> None:
        with contextlib.suppress(OSError), came:
            head, body = _request(came)
            made.bodies += [body] if body else []
            made.heard.append(head)
            method, _, rest = head.partition(" ")
            said = reply(method, rest.split(" ")[0])
            came.sendall(said if isinstance(said, bytes) else _answer(*said))
            while drip:
                for piece in drip:
                    came.sendall(piece)
            if hold:
                made.released.wait()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield made
    finally:
        made.released.set()
        listening.close()


def _request(came: socket.socket) -> tuple[str, bytes]:
    """Head and content."""
    found = b""
    while b"\r\n\r\n" not in found and not found.startswith(TLS_RECORD):
        block = came.recv(65536)
        if not block:
            raise OSError
        found += block
    head, _, rest = found.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
    while len(rest) < length and (block := came.recv(65536)):
        rest += block
    return head.decode("latin-1"), rest


def _answer(status: int, content: Any) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
