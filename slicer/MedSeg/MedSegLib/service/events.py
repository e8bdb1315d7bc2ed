"""Server-Sent Events (HTML, 9.2), as far as the service sends them, and no more of them than it can mean."""

from __future__ import annotations

import json
from typing import Any

LONGEST_LINE = 64 * 1024
"""Bytes."""


class Events:
    """Reads a stream in the pieces that it comes in."""

    def __init__(self) -> None:
        self._rest = b""
        self._kind, self._data = "", list[str]()
        self._size = 0

    def feed(self, block: bytes) -> list[tuple[str, dict[str, Any]]]:
        """Kind and content of the events that end in this piece.

        Raises:
            ValueError: no such stream.
        """
        found: list[tuple[str, dict[str, Any]]] = []
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > LONGEST_LINE or self._size > LONGEST_LINE:
            raise ValueError("an event without end")
        for line in lines:
            self._take(line.rstrip(b"\r").decode("utf-8"), found)
        return found

    def _take(self, line: str, found: list[tuple[str, dict[str, Any]]]) -> None:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line:
            if self._data:
                found.append((self._kind, _content("\n".join(self._data))))
            self._kind, self._data, self._size = "", [], 0
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
            self._size += len(value)


def _content(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested without end") from error
    if not isinstance(content, dict):
        raise ValueError("an event that holds no object")
    return content
