"""`gradfleet migrate`: prepare the database for this version before a service starts on it."""

from __future__ import annotations

from service.cli.terminal import fail, say


def migrate() -> None:
    """Migrate the database (GRADFLEET_DATABASE_URL) to this version's schema.

    A service does the same when it starts. If several start at once, they need not wait for it. Tokens in the
    environment become valid: GRADFLEET_ADMIN_TOKEN with the role admin, GRADFLEET_METRICS_TOKEN with the role read.
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
        fail(str(error), code=2)
    finally:
        database.close()
    say("the database has this version's schema")
