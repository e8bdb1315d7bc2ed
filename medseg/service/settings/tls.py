"""Certificates, wherever something speaks or listens over TLS."""

from __future__ import annotations

from pathlib import Path

from medseg.settings import Settings


class Tls(Settings):
    """Files in PEM."""

    certificate: Path
    """Own certificate, with those that it hangs on."""
    key: Path
    """Of the certificate; without a password."""
    authority: Path | None = None
    """Certificates of whom to trust. Who listens and has it lets in only those who show a certificate of theirs; who
    speaks and has none trusts whom the system trusts."""
