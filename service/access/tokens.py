"""Tokens in the database. Only a hash of the secret is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, select
from sqlalchemy.engine import make_url

from service.store import Database
from service.store.models import Token, now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SECRET_BYTES = 32
GIVEN = re.compile(r"tok_[0-9a-f]{16}\.[A-Za-z0-9_-]{40,}")  # a secret about as long as a generated one


class TokenFormatError(ValueError):
    """A given token does not have the form of tokens."""


class Role(StrEnum):
    """Roles of tokens in ascending order; each one includes those before it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether a token of this role may do what `other` allows."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


def add_token(session: Session, name: str, role: Role) -> tuple[Token, str]:
    """Create a token; returns its row and the text that its owner sends, which is not stored."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    token = Token(id=f"tok_{secrets.token_hex(8)}", name=name, role=role, secret_sha256=_digest(secret))
    session.add(token)
    session.flush()
    return token, f"{token.id}.{secret}"


def keep_token(session: Session, name: str, role: Role, text: str) -> None:
    """Store a given token: tok_, 16 hexadecimal digits, a dot and a long secret.

    An existing token is not changed, even if it is revoked. Raises TokenFormatError for text of another form.
    """
    if not GIVEN.fullmatch(text):
        raise TokenFormatError(
            f"the token for {name} is not of the form tok_0123456789abcdef.SECRET, with a secret of "
            "at least 40 letters, digits, - and _"
        )
    token_id, _, secret = text.partition(".")
    if session.get(Token, token_id) is None:
        session.add(Token(id=token_id, name=name, role=role, secret_sha256=_digest(secret)))


def list_tokens(session: Session) -> list[Token]:
    """Every token, oldest first, revoked ones too."""
    return list(session.scalars(select(Token).order_by(Token.created_at, Token.id)))


def revoke_token(session: Session, token_id: str) -> Token | None:
    """Revoke a token; returns None if it does not exist. Revoking again changes nothing."""
    token = session.get(Token, token_id)
    if token is not None and token.revoked_at is None:
        token.revoked_at = now()
    return token


def find_token(session: Session, text: str) -> Token | None:
    """The token with this text; None if it does not exist or is revoked."""
    token_id, _, secret = text.partition(".")
    token = session.get(Token, token_id)
    if token is None or token.revoked_at is not None:
        return None
    # The id may be public; the time of this comparison reveals nothing about the secret.
    return token if hmac.compare_digest(token.secret_sha256, _digest(secret)) else None


def has_token(url: str) -> bool:
    """Whether the database at `url` has a token that is not revoked; a missing database is not created."""
    location = make_url(url)
    if location.get_backend_name() == "sqlite" and location.database and not Path(location.database).exists():
        return False
    database = Database(url)
    try:
        if not inspect(database.engine).has_table(Token.__tablename__):
            return False
        with database.reading() as session:
            return session.scalar(select(Token.id).where(Token.revoked_at.is_(None)).limit(1)) is not None
    finally:
        database.close()


def _digest(secret: str) -> str:
    # Slow hashes with salt are for passwords, which can be guessed. A secret of 256 random bits cannot.
    return hashlib.sha256(secret.encode()).hexdigest()
