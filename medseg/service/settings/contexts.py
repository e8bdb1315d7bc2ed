"""Certificates as Python's `ssl` takes them."""

from __future__ import annotations

import ssl

from medseg.refusal import Refusal
from medseg.service.settings.site import Site
from medseg.service.settings.tls import Tls


def server(site: Site, tls: Tls) -> ssl.SSLContext:
    """For who listens: with an authority, only those who show a certificate of it are let in.

    Raises:
        Refusal: a file is not there, or no certificate or key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(site, tls, context)
    if tls.authority:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client(site: Site, tls: Tls) -> ssl.SSLContext:
    """For who speaks: only whom the authority knows is spoken to; without one, whom the system knows.

    Raises:
        Refusal: see `server`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(site, tls, context)
    if tls.authority is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _load(site: Site, tls: Tls, context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(site.at(tls.certificate), site.at(tls.key), password=_no_password)
        if tls.authority:
            context.load_verify_locations(site.at(tls.authority))
    except (OSError, ValueError) as error:
        raise Refusal(
            site.at(tls.certificate),
            found=f"that it, its key or the authority cannot be used ({error})",
            needed="files in PEM, and a key without a password that belongs to the certificate",
            remedy="check the files of the section tls",
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")
