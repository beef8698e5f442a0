"""`gradfleet tokens`: the API's tokens, in the service's database."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.server.command import ServerCommand
from service.cli.server.up import DataDir
from service.cli.terminal import fail, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

tokens = typer.Typer(help="Create, list and revoke the API's tokens.", no_args_is_help=True)

DEFAULT_DATA_DIR = Path("gradfleet-data")


@tokens.command("add", cls=ServerCommand)
def add(
    name: Annotated[str, typer.Argument(help="Who or what the token is for.", show_default=False)],
    role: Annotated[str, typer.Option(help="read, submit (includes read) or admin (includes delete).")] = "submit",
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a token and print it. It cannot be shown again."""
    from service.access.tokens import Role, add_token  # noqa: PLC0415

    if role not in list(Role):
        raise typer.BadParameter(f"must be one of {', '.join(Role)}, not {role!r}", param_hint="--role")
    if not name.strip() or not name.isprintable():
        raise typer.BadParameter("must be printable text", param_hint="NAME")
    with _writing(data_dir) as session:
        token, text = add_token(session, name, Role(role))
        token_id = token.id
    typer.echo(text)
    typer.echo(
        f"Shown only once. Use it as GRADFLEET_TOKEN; revoke it with `gradfleet tokens revoke {token_id}`.",
        err=True,
    )


@tokens.command("list", cls=ServerCommand)
def list_(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the tokens, without their secrets."""
    from service.access.tokens import list_tokens  # noqa: PLC0415

    with _writing(data_dir) as session:
        for token in list_tokens(session):
            state = f"revoked {token.revoked_at:%Y-%m-%d %H:%M}" if token.revoked_at else "valid"
            say(f"{token.id}  {token.role:<6}  {token.created_at:%Y-%m-%d %H:%M}  {state:<24}  {token.name}")


@tokens.command("revoke", cls=ServerCommand)
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token: tok_...", show_default=False)],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Revoke a token: the API no longer accepts it."""
    from service.access.tokens import revoke_token  # noqa: PLC0415

    with _writing(data_dir) as session:
        found = revoke_token(session, token_id) is not None
    if not found:
        fail("there is no token with this id; `gradfleet tokens list` shows all tokens")
    say(f"{token_id} revoked")


@contextmanager
def _writing(data_dir: Path) -> Iterator[Session]:
    """Transaction on the service's database, which is created if needed: tokens precede the first start."""
    from service.settings import Settings  # noqa: PLC0415
    from service.store import Database, migrate  # noqa: PLC0415

    url = Settings(data_dir=data_dir).database
    migrate(url)
    database = Database(url)
    try:
        with database.writing() as session:
            yield session
    finally:
        database.close()
