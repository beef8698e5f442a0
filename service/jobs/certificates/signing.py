"""The key with which a service signs its certificates."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from service.jobs.certificates.document import Signature

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILE = "certificate-key.pem"


def signing_key(data_dir: Path) -> Ed25519PrivateKey:
    """The key in a data directory, which only its owner can read; it is made with the first certificate.

    Raises OSError, and ValueError for a file that holds another kind of key or none.
    """
    path = data_dir / KEY_FILE
    if not path.exists():
        _make(path)
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{KEY_FILE} in the data directory must hold an Ed25519 key")  # noqa: TRY004
    return key


def _make(path: Path) -> None:
    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Another process may have made one since: its key stays.
        with suppress(FileExistsError):
            path.hardlink_to(partial)
    finally:
        partial.unlink(missing_ok=True)


def public_key_of(key: Ed25519PrivateKey) -> str:
    """The public key, in hexadecimal."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def sign(root: str, key: Ed25519PrivateKey) -> Signature:
    """Sign a root hash."""
    return Signature(algorithm="Ed25519", public_key=public_key_of(key), value=key.sign(root.encode()).hex())


def is_valid(signature: Signature, root: str) -> bool:
    """Whether the owner of the signature's key has signed this root hash."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key))
        public.verify(bytes.fromhex(signature.value), root.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
