"""What a key makes of identities: pseudonyms, new UIDs and shifts of dates, the same ones whenever it is used.

HMAC-SHA256 (RFC 2104): without the key nobody can try out patient numbers until a pseudonym comes out.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import UID

from medseg.refusal import Refusal

BYTES = 32
LARGEST_SHIFT_DAYS = 3652
"""Ten years."""


@dataclass(frozen=True)
class Secret:
    """A key of 32 bytes."""

    key: bytes = field(repr=False)

    def pseudonym(self, patient: str) -> str:
        """P and 16 hexadecimal digits: two of a million patients share one with a chance of 1 in 30 million."""
        return f"P{self._digest('patient', patient)[:8].hex().upper()}"

    def uid(self, original: str) -> str:
        """UUID-derived under 2.25 (PS3.5, B.2). UIDs that the standard lists stay: they name kinds of things, nobody's
        thing. Its root alone is not enough, as some devices make the UIDs of their images under it."""
        if UID(original).name != original:
            return original
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', original)[:16], version=5).int}"

    def days(self, patient: str) -> int:
        """By how many days a patient's dates move: 1 to 3652 into the past, so that no date comes to lie ahead."""
        return -1 - int.from_bytes(self._digest("days", patient)[:8]) % LARGEST_SHIFT_DAYS

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self.key, f"{purpose}\0{text}".encode("utf-8", "surrogateescape"), hashlib.sha256)


def fresh() -> Secret:
    """A key that nobody keeps, for a trial run."""
    return Secret(secrets.token_bytes(BYTES))


def read_or_make(path: Path) -> Secret:
    """The key in a file; if there is no file, a new one is drawn and written, for its owner's eyes only.

    Raises:
        Refusal: the file holds something else, or others may read it.
    """
    if not path.exists():
        made = fresh()
        write_private(path, made.key.hex() + "\n")
        return made
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Refusal(
            path,
            found="a key that others on this machine may read",
            needed="one for its owner only",
            remedy=f"chmod 600 '{path}', and draw a new key if it may have been read",
        )
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * BYTES}}}", text):
        raise Refusal(
            path,
            found="something that is no key",
            needed=f"{2 * BYTES} hexadecimal digits",
            remedy="give the file that an earlier run made, or a name that no file has yet",
        )
    return Secret(bytes.fromhex(text))


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner may read, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as handle:
        handle.write(text)
