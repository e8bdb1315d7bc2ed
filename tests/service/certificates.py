"""Certificates for tests: an authority, those that it signed, and a stranger's."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificates(folder: Path) -> None:
    """An authority, and certificates of it for a server (127.0.0.1) and a client; and one of somebody else's."""
    for name in ("authority", "stranger"):
        key = ec.generate_private_key(ec.SECP256R1())
        write(folder, name, key, signed(name, key, name, key, authority=True))
        for other in ("server", "client") if name == "authority" else ("foreign",):
            own = ec.generate_private_key(ec.SECP256R1())
            write(folder, other, own, signed(other, own, name, key, authority=False))


def signed(name: str, key, issuer: str, by, *, authority: bool) -> x509.Certificate:
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(by, hashes.SHA256())
    )


def write(folder: Path, name: str, key, certificate: x509.Certificate) -> None:
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(key.private_bytes(*plain))
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
