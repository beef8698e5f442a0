"""The certificate of a Ray cluster: with it, its processes accept and make connections only among themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NODE = IPv4Address("127.0.0.1")  # the address at which the processes reach each other
# The validity must not depend on the clock. The certificate is used only while its cluster runs.
FIRST_DAY, LAST_DAY = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


def write_certificate(directory: Path) -> dict[str, str]:
    """Write a new private key and its certificate, and return the variables with which Ray uses them (mutual TLS).

    The directory is created, for this account only. Every process of the cluster has the same certificate and trusts no other one, so
    no authority is needed.
    """
    from cryptography import x509  # noqa: PLC0415  only the embedded stack needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gradfleet")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), FIRST_DAY, LAST_DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(NODE)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    directory.mkdir(mode=0o700, exist_ok=True)
    key_file, certificate_file = directory / "key.pem", directory / "certificate.pem"
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    certificate_file.write_bytes(certificate.public_bytes(pem))
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_KEY": str(key_file),
        "RAY_TLS_SERVER_CERT": str(certificate_file),
        "RAY_TLS_CA_CERT": str(certificate_file),
    }
