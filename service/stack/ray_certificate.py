"""The certificates of a Ray cluster: its processes accept and make connections only among themselves (mutual TLS).

    python -m service.stack.ray_certificate ray start ...

runs a command on a node of the cluster whose secret is RAY_AUTH_TOKEN and whose head is at RAY_HEAD (host:port).
"""

from __future__ import annotations

import hmac
import os
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from service.addresses import host_and_port

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.x509 import GeneralName

LOOPBACK = "127.0.0.1"
# The certificates must not depend on the clock, and they are used only while the cluster runs.
FIRST_DAY, LAST_DAY = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


def write_certificate(directory: Path, secret: str, names: Iterable[str] = (LOOPBACK,)) -> dict[str, str]:
    """Write the cluster's private key and a certificate, and return the variables with which Ray uses them.

    The key is derived from the secret, so nodes that know it trust each other and nothing has to be copied between
    them. `names` are the host names and addresses at which the processes of this node are reached. The directory is
    created, for this account only.
    """
    from cryptography import x509  # noqa: PLC0415  only a process that starts Ray needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    digest = hmac.digest(secret.encode(), b"gradfleet: key of the Ray cluster", "sha256")
    # A key must be less than the order of the curve, which has 256 bits.
    key = ec.derive_private_key(int.from_bytes(digest) >> 1, ec.SECP256R1())
    authority, node = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("cluster", "node"))

    def certificate(subject: x509.Name, extension: x509.ExtensionType) -> bytes:
        number = x509.random_serial_number()
        builder = x509.CertificateBuilder(authority, subject, key.public_key(), number, FIRST_DAY, LAST_DAY)
        signed = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return signed.sign(key, hashes.SHA256()).public_bytes(pem)

    pem = serialization.Encoding.PEM
    directory.mkdir(mode=0o700, exist_ok=True)
    contents = {
        "RAY_TLS_SERVER_KEY": key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        "RAY_TLS_SERVER_CERT": certificate(node, x509.SubjectAlternativeName([_general_name(name) for name in names])),
        "RAY_TLS_CA_CERT": certificate(authority, x509.BasicConstraints(ca=True, path_length=0)),
    }
    files = {variable: directory / f"{variable.removeprefix('RAY_TLS_').lower()}.pem" for variable in contents}
    for variable, file in files.items():
        file.write_bytes(contents[variable])
    return {"RAY_USE_TLS": "1", **{variable: str(file) for variable, file in files.items()}}


def _general_name(name: str) -> GeneralName:
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def main() -> None:
    """Run the command of the arguments on a node of the cluster."""
    from ray.util import get_node_ip_address  # noqa: PLC0415

    names = [LOOPBACK, get_node_ip_address(), host_and_port(os.environ["RAY_HEAD"])[0]]
    variables = write_certificate(Path.home() / ".ray-certificate", os.environ["RAY_AUTH_TOKEN"], names)
    os.execvpe(sys.argv[1], sys.argv[1:], os.environ | variables)  # noqa: S606  the operator's command


if __name__ == "__main__":
    main()
