"""Why a service was not reached or did not do what was asked, in plain words. The token is in none of them: it is never
in what goes into a message, and what a service says is rid of it by who shows it.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import replace
from typing import Any

from MedSegLib import words
from MedSegLib.words import Failure

TIMEOUTS = (socket.timeout, TimeoutError)
"""One since Python 3.10."""
LONGEST = 64 * 1024
"""Characters of what somebody else's program said that are looked at."""
NO_SERVER, NO_MEDSEG, NO_TRUST, NO_TOKEN = "no-server", "no-medseg", "no-trust", "no-token"
PASSING = (408, 429, 502, 503, 504)
"""Status codes after which the same may be asked again."""
_OTHER_NAME, _OUT_OF_DATE, _UNKNOWN_ISSUER = (62, 64), (9, 10), (18, 19, 20, 21)
"""OpenSSL's codes of verification (X509_V_ERR_...)."""


class Stopped(Exception):
    """The run was cancelled."""


class Trouble(Exception):
    """What ends a run, or a try of it.

    Attributes:
        failure: in words.
        passing: whether the same may work in a moment.
        wait_s: how long the service asks to wait before that.
        late: whether time ran out.
    """

    def __init__(self, failure: Failure, *, passing: bool = False, wait_s: float = 0.0, late: bool = False):
        super().__init__(failure.what)
        self.failure, self.passing, self.wait_s, self.late = failure, passing, wait_s, late


def of_error(error: Exception, place: str) -> Trouble:
    """Of an exception of a connection.

    Args:
        place: host and port.
    """
    detail = _short(f"{type(error).__name__}: {error}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Trouble(_distrusted(error, place, detail))
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _of_tls(error, place, detail)
    if isinstance(error, socket.gaierror):
        what = f"No machine of the name in {place} was found."
        return _unreached(what, "Check the spelling of the address, and the network or VPN.", detail)
    if isinstance(error, ConnectionRefusedError):
        what = f"Nothing answers at {place}."
        return _unreached(what, "Check the address and port, and that `medseg serve` runs there.", detail)
    if isinstance(error, TIMEOUTS):
        return too_late(place, detail)
    if isinstance(error, (http.client.RemoteDisconnected, http.client.IncompleteRead)):
        return _unreached(f"The connection to {place} broke.", "Check the network, and that the service runs.", detail)
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return strange(place, detail)
    if "Tunnel connection failed" in str(error):
        remedy = "Ask who runs the network, or name the service in no_proxy if it is reached without the proxy."
        return _unreached(f"The proxy of this network does not let anybody through to {place}.", remedy, detail)
    return _unreached(f"The connection to {place} broke.", "Check the network, and that the service runs.", detail)


def too_late(place: str, detail: str = "") -> Trouble:
    found = _unreached(
        f"{place} did not answer in time.",
        "Check the network, and whether the service is busy; a firewall may also swallow what is sent.",
        detail,
    )
    found.late = True
    return found


def strange(place: str, detail: str = "") -> Trouble:
    """What answers is no service of ours, or another version."""
    return Trouble(
        Failure(
            f"What answers at {place} is no medseg service that this module knows.",
            "Check the address: it is the one that `medseg serve` names, without anything after the port unless a "
            "gateway adds it. If it is right, the service may be of another version.",
            NO_MEDSEG,
            _short(detail),
        )
    )


def of_status(status: int, body: bytes, place: str, *, wait: str = "", location: str = "") -> Trouble:
    """Of an answer that is none of the 2xx.

    Args:
        wait: header Retry-After.
        location: header Location.
    """
    if 300 <= status < 400:
        return _elsewhere(place, location)
    said = _said(body)
    unknown = said is None or (status in (404, 405) and not said.get("found"))
    if unknown and status in (400, 401, 403, 404, 405, 409, 413, 415, 422):
        return strange(place, f"status {status}: {body[:LONGEST].decode('utf-8', 'replace')}")
    told = {key: _short(value) for key, value in (said or {}).items()}
    token = status in (401, 429)  # what the service says of those is for who writes programs
    failure = words.of_http(status, {"error": told} if told.get("found") and not token else None)
    detail = _short(f"status {status}: {told.get('text', '')}")
    if token:
        failure = replace(failure, code=NO_TOKEN)
    passing = status in PASSING and told.get("where") != "model"  # a damaged model does not get well by waiting
    return Trouble(replace(failure, detail=detail), passing=passing, wait_s=_seconds(wait))


def _said(body: bytes) -> dict[str, Any] | None:
    """What the service says of an error; None: it does not speak as ours does."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return error if isinstance(error, dict) else None


def _elsewhere(place: str, location: str) -> Trouble:
    what = f"{place} sends everybody on to another address, and the token is not given to another one."
    remedy = "Type the address of the service itself" + (f": it may be at {_short(location)}." if location else ".")
    return Trouble(Failure(what, remedy, NO_MEDSEG))


def _of_tls(error: ssl.SSLError, place: str, detail: str) -> Trouble:
    reason = (getattr(error, "reason", "") or str(error)).upper()
    if "WRONG_VERSION" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason or "PACKET" in reason:
        remedy = "Check the port, and whether the service has a certificate (serve.tls in its site.yaml)."
        return Trouble(Failure(f"{place} does not speak TLS.", remedy, NO_TRUST, detail))
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        what = f"{place} wants a certificate from its clients, or a way to encrypt that is not known here."
        return Trouble(Failure(what, "Ask who runs the service for an address for 3D Slicer.", NO_TRUST, detail))
    return _unreached(f"The encrypted connection to {place} broke.", "Check the network and the address.", detail)


def _distrusted(error: ssl.SSLCertVerificationError, place: str, detail: str) -> Failure:
    """A certificate that will not do: nothing was sent."""
    if error.verify_code in _OTHER_NAME:
        why = "belongs to another name"
        remedy = "Use the name that the certificate was made for, or have one made for this name."
    elif error.verify_code in _OUT_OF_DATE:
        why = "is not valid today"
        remedy = "Check this computer's clock; else the certificate has to be renewed."
    elif error.verify_code in _UNKNOWN_ISSUER:
        why = "was issued by an authority that is not known here"
        remedy = "Choose your hospital's CA file in the settings, if it has an authority of its own."
    else:
        why, remedy = "cannot be trusted", "Ask who runs the service."
    return Failure(f"The certificate of {place} {why}; nothing was sent.", remedy, NO_TRUST, detail)


def _unreached(what: str, remedy: str, detail: str) -> Trouble:
    return Trouble(Failure(what, remedy, NO_SERVER, detail), passing=True)


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() and len(text) < 5 else 0.0


def _short(value: object) -> str:
    """Printable, and not without end. What is shown of it is cut where the token has been taken out: a piece of it
    would not be found any more."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST]).strip()
