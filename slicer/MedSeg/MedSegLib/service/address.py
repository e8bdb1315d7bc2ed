"""Where a service is, whom to trust there, and the way to it."""

from __future__ import annotations

import base64
import ipaddress
import ssl
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from MedSegLib.service.trouble import NO_SERVER, NO_TOKEN, NO_TRUST, Trouble
from MedSegLib.words import Failure

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""The system's authorities on Linux and macOS, where the OpenSSL that Python came with does not know of them."""
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """What a connection to other machines has to go through."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Door:
    """An address that may be talked to.

    Attributes:
        prefix: of every path; empty, or begins with a slash.
        token: as it is sent.
        authority: file of the authorities that are trusted; None: the system's.
    """

    secure: bool
    host: str
    port: int
    prefix: str
    token: str = field(repr=False)
    authority: Path | None = None

    @property
    def place(self) -> str:
        """For messages."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def trust(self) -> ssl.SSLContext:
        """
        Raises:
            Trouble: the file of authorities cannot be used.
        """
        if self.authority is None:
            context = ssl.create_default_context()
            if not context.cert_store_stats()["x509_ca"]:
                for bundle in filter(lambda path: Path(path).is_file(), BUNDLES):
                    context.load_verify_locations(bundle)
        else:
            try:
                # certificates are ASCII; what people write between them need not be, and says nothing
                text = self.authority.read_text(encoding="ascii", errors="ignore")
                context = ssl.create_default_context(cadata=text)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                what = f"The CA file {self.authority} cannot be used."
                remedy = "Choose the certificate of your hospital's authority, as a PEM file."
                raise Trouble(Failure(what, remedy, NO_TRUST, str(error))) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def proxy(self) -> Proxy | None:
        """As the environment or the system says; never for this machine itself.

        Raises:
            Trouble: one that cannot be used.
        """
        if not self.secure or _loopback(self.host) or urllib.request.proxy_bypass(self.host):
            return None
        found = urllib.request.getproxies()
        text = found.get("https") or found.get("all")
        if not text:
            return None
        parts = urlsplit(text if "://" in text else f"http://{text}")
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port:
            what = f"The proxy that this computer is told to use ({parts.scheme}) is none that can be used here."
            remedy = "Set https_proxy to one of the form http://HOST:PORT, or name the service in no_proxy."
            raise Trouble(Failure(what, remedy, NO_SERVER))
        return Proxy(parts.hostname, port, _login(parts.username, parts.password))


def door(address: str, token: str, authority: Path | None) -> Door:
    """
    Raises:
        Trouble: an address that is none, or that would have token and scans travel readable.
    """
    text = address.strip()
    parts, port = _parts(text)
    host, scheme = parts.hostname or "", parts.scheme.lower()
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _unfit("The address holds more than a name, a port and a path.", "Type it without the rest.")
    if scheme == "http" and not _loopback(host):
        raise Trouble(
            Failure(
                f"http://{host} would have the scan and the token travel where others can read them.",
                "Use the service's https address. Without one, bring it to this computer by an SSH tunnel "
                "(`ssh -L 8080:127.0.0.1:8080 HOST`) and use http://127.0.0.1:8080.",
                NO_TRUST,
            )
        )
    secret = token.strip()
    if not secret:
        raise _no_token("There is no token for the service.")
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise _no_token("The token holds letters that no token has.")
    prefix = parts.path.rstrip("/")
    prefix = prefix[: -len("/api/v1")] if prefix.endswith("/api/v1") else prefix
    if not (prefix.isascii() and prefix.isprintable()) or " " in prefix:
        raise _unfit("The path of the address holds letters that cannot stand there.", "Copy it again.")
    return Door(scheme == "https", host, port or PORTS[scheme], prefix, secret, authority)


def _parts(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise _unfit(f"{text} is no address.", "Type it as in https://medseg.hospital.example:8080.") from error
    if parts.scheme.lower() not in PORTS or not parts.hostname:
        raise _unfit(
            "The address does not begin with https:// and a name.",
            "Type it as in https://medseg.hospital.example:8080.",
        )
    return parts, port


def _unfit(what: str, remedy: str) -> Trouble:
    return Trouble(Failure(what, remedy, NO_SERVER))


def _no_token(what: str) -> Trouble:
    return Trouble(Failure(what, "Paste the one that `medseg tokens add` printed.", NO_TOKEN))


def _login(name: str | None, password: str | None) -> dict[str, str]:
    if not name:
        return {}
    pair = f"{unquote(name)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def _loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
