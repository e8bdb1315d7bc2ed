"""Who may do what: names, roles and salted hashes of tokens in a file that its owner alone can read.

A token is `NAME.SECRET`: the name says whose hash it is to be compared with, so that a guess costs one comparison and
not one for each token. The secret is 256 random bits, shown once and kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from filelock import FileLock
from pydantic import Field, ValidationError

from medseg.atomic import replacing
from medseg.refusal import Refusal
from medseg.service.settings.folders import private
from medseg.settings import Settings

Role = Literal["read", "submit", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""read: look at jobs and results; submit: that, and ask for jobs, and cancel and retry those that it asked for; admin:
that with all jobs, and release what was held back. Each may do what those before it may."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"
SECRET_BYTES = 32
COST = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 2**20}
"""Of scrypt (RFC 7914): 16 MiB and some tens of milliseconds for each comparison."""
LOCK_S = 10


class Token(Settings):
    """What the file holds of a token."""

    name: Annotated[str, Field(pattern=NAME)]
    role: Role
    salt: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """scrypt of the secret, see `COST`."""

    def may(self, role: Role) -> bool:
        """Whether it may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


class _File(Settings):
    tokens: tuple[Token, ...] = ()


NOBODY = Token(name="nobody", role="read", salt="0" * 32, hash="0" * 64)
"""Compared with where a name is not known, so that this takes as long."""


def load(path: Path) -> tuple[Token, ...]:
    """The tokens of a file; none where there is no file.

    Raises:
        Refusal: others than its owner can read it, or it is not such a file.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            if os.name == "posix" and stat.S_IMODE(os.fstat(handle.fileno()).st_mode) & 0o077:
                raise Refusal(
                    path,
                    found="a file of tokens that others can read or write",
                    needed="one for its owner alone",
                    remedy=f"chmod 600 {path}; if it was so for long, make new tokens",
                )
            values = yaml.safe_load(handle) or {}
        return _File.model_validate(values).tokens
    except FileNotFoundError:
        return ()
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:  # whose words may hold what is in the file
        raise Refusal(
            path,
            found=f"something else ({type(error).__name__})",
            needed="a file as `medseg tokens add` writes it",
            remedy="restore it, or remove it and make new tokens",
        ) from None


def add(path: Path, name: str, role: Role) -> str:
    """Put a new token into the file, which is made if it is not there.

    Returns:
        The token, which cannot be told again.

    Raises:
        Refusal: there is one of this name, or the name will not do.
    """
    secret, salt = secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(16)
    with _changing(path):
        known = load(path)
        if any(token.name == name for token in known):
            remedy = "remove that one first, or take another name"
            raise Refusal(f"token {name}", found="one of this name", needed="a new name", remedy=remedy)
        try:
            made = Token(name=name, role=role, salt=salt.hex(), hash=_hashed(secret, salt).hex())
        except ValidationError:
            raise Refusal(
                f"token {name!r}",
                found="a name that will not do",
                needed="up to 40 letters, digits, _ and -, and a letter or digit first",
                remedy="choose another",
            ) from None
        _write(path, (*known, made))
    return f"{name}.{secret}"


def remove(path: Path, name: str) -> None:
    """Take a token out of the file; who holds it is refused from then on.

    Raises:
        Refusal: there is none of this name.
    """
    with _changing(path):
        known = load(path)
        left = tuple(token for token in known if token.name != name)
        if len(left) == len(known):
            names = ", ".join(token.name for token in known) or "there are none"
            raise Refusal(f"token {name}", found="none of this name", needed=f"one of: {names}", remedy="see the list")
        _write(path, left)


def matches(token: Token, secret: str) -> bool:
    """Whether a secret is that of a token; it takes as long either way."""
    return hmac.compare_digest(_hashed(secret, bytes.fromhex(token.salt)), bytes.fromhex(token.hash))


@dataclass
class Known:
    """The tokens of a file, read again when it changes, so that a token that was removed is refused at once."""

    path: Path
    _stamp: tuple[int, ...] = ()
    _tokens: tuple[Token, ...] = ()

    def named(self, name: str) -> Token | None:
        """
        Raises:
            Refusal: as `load`.
        """
        try:
            status = self.path.stat()
            stamp: tuple[int, ...] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            stamp = (0,)
        if stamp != self._stamp:
            self._tokens = load(self.path)
            self._stamp = stamp
        return next((token for token in self._tokens if token.name == name), None)


def _hashed(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode("utf-8", "surrogateescape"), salt=salt, dklen=32, **COST)


def _changing(path: Path) -> FileLock:
    """Two that change the file at once do so one after the other."""
    private(path.parent)
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_S)


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    text = yaml.safe_dump({"tokens": [token.model_dump() for token in tokens]}, sort_keys=False)
    with replacing(path) as temporary:
        temporary.touch(0o600)
        temporary.write_text(text, encoding="utf-8")
