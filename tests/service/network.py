"""A way between two programs that can be cut, and that can refuse, while they are talking."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Mode = Literal["pass", "cut", "refuse"]
TRANSIENT_REJECTION = bytes.fromhex("0300000000040002 0302".replace(" ", ""))
"""A-ASSOCIATE-RJ: transient, by the service provider, local limit exceeded (DICOM PS3.8, 9.3.4)."""
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Way:
    """Connections to `port` are passed on to `target`.

    Attributes:
        mode: cut: whatever is open is closed, and nothing new is let through; refuse: `refusal` is the answer.
    """

    def __init__(self, target: int, refusal: bytes):
        self.mode: Mode = "pass"
        self._target, self._refusal = target, refusal
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: Mode) -> None:
        self.mode = mode
        if mode != "pass":
            self._close_all()

    def close(self) -> None:
        self.mode = "cut"
        self._listening.close()
        self._close_all()

    def _close_all(self) -> None:
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                came, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(came,), daemon=True).start()

    def _serve(self, came: socket.socket) -> None:
        with contextlib.suppress(OSError), came:
            if self.mode == "refuse":
                came.settimeout(5)
                came.recv(65536)
                came.sendall(self._refusal)
            if self.mode != "pass":
                return
            with socket.create_connection(("127.0.0.1", self._target), timeout=10) as gone:
                with self._lock:
                    self._open |= {came, gone}
                try:
                    _pump(came, gone)
                finally:
                    with self._lock:
                        self._open -= {came, gone}


def _pump(one: socket.socket, other: socket.socket) -> None:
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select(timeout=60):
                block = key.fileobj.recv(65536)  # type: ignore[union-attr]  # a socket
                if not block:
                    return
                key.data.sendall(block)


@contextmanager
def way(target: int, refusal: bytes) -> Iterator[Way]:
    made = Way(target, refusal)
    try:
        yield made
    finally:
        made.close()
