"""One request at a time to a service, which another thread can end at any moment.

http.client knows no total time and cannot be interrupted. So each answer has a timer, and `Caller.stop` is a switch;
both shut the socket down under the request, and whoever waits there wakes with an error.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from MedSegLib.service.address import Door
from MedSegLib.service.form import Form
from MedSegLib.service.trouble import LONGEST, NO_SERVER, Stopped, Trouble, of_error, of_status, strange, too_late

API = "/api/v1/"
BLOCK = 256 * 1024
"""Bytes at once: few, for a thread waits for Python's lock after each, and so small that a connection as slow as a
service allows passes one on within `Limits.silence`."""
LARGEST_ANSWER = 16 * 2**20
"""Bytes of JSON."""
STORES_BYTES_A_SECOND = 10 * 2**20
"""At which a service is trusted to put away what was uploaded, before it answers."""


@dataclass(frozen=True)
class Limits:
    """Seconds.

    Attributes:
        connect: until there is a connection.
        silence: without a byte, or until an answer in JSON is complete.
        patience: after which a service that has answered before, and does not any more, is given up.
        pause: between two looks at a job that tells nothing by itself; a quarter of it before something is tried again.
    """

    connect: float = 10.0
    silence: float = 60.0
    patience: float = 120.0
    pause: float = 2.0


class Caller:
    """Asks one service. `stop` may be called from any thread and comes back at once.

    Raises:
        Trouble: the file of authorities cannot be used.
    """

    def __init__(self, door: Door, limits: Limits):
        self.door, self.limits = door, limits
        self.stopping = threading.Event()
        self._trust = door.trust() if door.secure else None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._kept = self._late = False

    def stop(self) -> None:
        """End what is being asked, and let nothing more be asked. Only the answer to an upload is still waited for: it
        names the job, which then has to be cancelled."""
        with self._lock:
            self.stopping.set()
            if not self._kept:
                self._cut()

    def check(self) -> None:
        """
        Raises:
            Stopped: it was.
        """
        if self.stopping.is_set():
            raise Stopped

    def json(self, method: str, path: str) -> Any:
        """
        Raises:
            Trouble, Stopped: see `answer`.
        """
        with self.answer(method, path) as answer:
            return answer.json()

    def upload(self, path: str, form: Form, told: Callable[[int, int], None]) -> Any:
        """Post a form; what is answered, even if `stop` comes between.

        Args:
            told: called with the bytes that are sent, and of how many.

        Raises:
            Trouble, Stopped: see `answer`.
        """
        try:
            with self._request("POST", path, {"Content-Type": form.kind, "Content-Length": str(form.size)}) as open_:
                broken = self._sent(open_, form, told)
                try:
                    with self._got(open_, self.limits.silence + form.size / STORES_BYTES_A_SECOND) as answer:
                        found = answer.json()
                except Trouble as trouble:
                    raise broken if broken and trouble.failure.code == NO_SERVER else trouble from None
                if broken:
                    raise broken
                return found
        finally:
            self._kept = False

    @contextmanager
    def answer(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, whole: bool = True
    ) -> Iterator[Answer]:
        """Ask, and have the answer for as long as the context lasts.

        Args:
            path: below `API`.
            whole: it is small and has to be complete within `silence`; else this holds for each part of it.

        Raises:
            Trouble: no connection, or an answer that refuses.
            Stopped: by `stop`.
        """
        empty = {"Content-Length": "0"} if method == "POST" else {}
        request, limit = self._request(method, path, {**empty, **(headers or {})}), self.limits.silence
        with request as open_, self._got(open_, limit, whole=whole) as answer:
            yield answer

    @contextmanager
    def words(self) -> Iterator[None]:
        """What goes wrong with a connection, as trouble."""
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self._kept:
                self.check()
            raise too_late(self.door.place) if self._late else of_error(error, self.door.place) from error

    @contextmanager
    def _request(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPConnection]:
        """A connection of its own, over which a question has begun."""
        self.check()
        open_, self._late = self._connection(), False
        try:
            with self.words():
                open_.connect()
                with self._lock:
                    self._socket = open_.sock
                    self.check()
                open_.sock.settimeout(self.limits.silence)
                open_.putrequest(method, self.door.prefix + API + path)
                for name, value in {**headers, "Connection": "close", "User-Agent": "MedSeg for 3D Slicer"}.items():
                    open_.putheader(name, value)
                open_.putheader("Authorization", f"Bearer {self.door.token}")
                open_.endheaders()
            yield open_
        finally:
            with self._lock:
                self._socket = None
                open_.close()

    def _connection(self) -> http.client.HTTPConnection:
        door, limit = self.door, self.limits.connect
        if self._trust is None:
            return http.client.HTTPConnection(door.host, door.port, timeout=limit)
        proxy = door.proxy()
        if proxy is None:
            return http.client.HTTPSConnection(door.host, door.port, timeout=limit, context=self._trust)
        through = http.client.HTTPSConnection(proxy.host, proxy.port, timeout=limit, context=self._trust)
        through.set_tunnel(door.host, door.port, headers=proxy.headers)
        return through

    def _sent(self, open_: http.client.HTTPConnection, form: Form, told: Callable[[int, int], None]) -> Trouble | None:
        """Send a form; the trouble, if the connection ended before all was sent: there may be an answer that says why.
        From the last block on, the answer has to be heard."""
        sent, size = 0, form.size
        try:
            for block in form.blocks():
                with self._lock:
                    self.check()
                    self._kept = sent + len(block) == size
                with self.words():
                    open_.send(block)
                sent += len(block)
                told(sent, size)
        except Trouble as trouble:
            if trouble.failure.code != NO_SERVER:
                raise
            return trouble
        return None

    @contextmanager
    def _got(self, open_: http.client.HTTPConnection, seconds: float, *, whole: bool = True) -> Iterator[Answer]:
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        got = None
        try:
            with self.words():
                open_.sock.settimeout(seconds)
                got = open_.getresponse()
            answer = Answer(got, self)
            if not 200 <= got.status < 300:
                raise answer.refusal()
            if not whole:
                timer.cancel()
            yield answer
        finally:
            timer.cancel()
            with self._lock:  # http.client leaves the socket to the answer
                self._socket = None
                if got:
                    got.close()

    def _expire(self) -> None:
        with self._lock:
            self._late = True
            self._cut()

    def _cut(self) -> None:
        """Only with the lock: so that the socket is not closed, and its number another's, at the same time."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # the one of ssl would take the encryption away from under the thread that is reading
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Answer:
    """What a service says, as it comes."""

    def __init__(self, got: http.client.HTTPResponse, caller: Caller):
        self.status = got.status
        self._got, self._caller = got, caller
        told = got.headers.get("Content-Length", "")
        self._size = int(told) if told.isdecimal() and len(told) < 16 else None

    def blocks(self) -> Iterator[bytes]:
        """Its content, as much at once as has come.

        Raises:
            Trouble: it breaks off.
            Stopped: by `Caller.stop`.
        """
        come = 0
        while self._size is None or come < self._size:
            with self._caller.words():
                block = self._got.read1(BLOCK if self._size is None else min(BLOCK, self._size - come))
                if not block and self._size is not None:
                    raise http.client.IncompleteRead(b"", self._size - come)
            if not block:
                return
            come += len(block)
            yield block

    def json(self) -> Any:
        """
        Raises:
            Trouble: it is none, too large, or breaks off.
        """
        place = self._caller.door.place
        text = self._some(LARGEST_ANSWER)
        if len(text) > LARGEST_ANSWER:
            raise strange(place, "an answer without end")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise strange(place, text[:LONGEST].decode("utf-8", "replace")) from error

    def refusal(self) -> Trouble:
        """What it says where it is none of the 2xx."""
        try:
            body = self._some(LONGEST)
        except Trouble:
            body = b""
        headers = self._got.headers
        wait, location = headers.get("Retry-After", ""), headers.get("Location", "")
        return of_status(self.status, body, self._caller.door.place, wait=wait, location=location)

    def _some(self, most: int) -> bytes:
        """At least `most` + 1 bytes, if there are so many."""
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > most:
                break
        return bytes(found)
