"""`gradfleet migrate`: the database made ready for this version, before any service starts on it."""

from __future__ import annotations

import typer


def migrate() -> None:
    """Bring the database (GRADFLEET_DATABASE_URL) to this version's schema.

    The service does the same when it starts; where several start, doing it first keeps them from waiting. Tokens that
    the environment gives then let their owners in: GRADFLEET_ADMIN_TOKEN as admin, GRADFLEET_METRICS_TOKEN to read.
    """
    from service.access.tokens import Role, TokenFormatError, keep_token  # noqa: PLC0415
    from service.settings import Settings  # noqa: PLC0415
    from service.store import Database  # noqa: PLC0415
    from service.store import migrate as apply  # noqa: PLC0415

    settings = Settings()
    apply(settings.database)
    database = Database(settings.database)
    given = (("admin", Role.ADMIN, settings.admin_token), ("metrics", Role.READ, settings.metrics_token))
    try:
        with database.writing() as session:
            for name, role, text in given:
                if text is not None:
                    keep_token(session, name, role, text.get_secret_value())
    except TokenFormatError as error:
        typer.echo(f"gradfleet: {error}", err=True)
        raise typer.Exit(2) from error
    finally:
        database.close()
    typer.echo("the database has this version's schema")
