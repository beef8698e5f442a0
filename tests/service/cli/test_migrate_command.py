from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from service.access.tokens import find_token, list_tokens, revoke_token
from service.cli.main import app
from service.store import Database

if TYPE_CHECKING:
    from pathlib import Path

ADMIN = f"tok_{'0a' * 8}.{'s' * 43}"
METRICS = f"tok_{'0b' * 8}.{'t' * 43}"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'fresh.db'}"
    monkeypatch.setenv("GRADFLEET_DATABASE_URL", url)
    return url


def migrate(expected: int = 0, **environment: str) -> str:
    done = CliRunner().invoke(app, ["migrate"], env={f"GRADFLEET_{name}": value for name, value in environment.items()})
    assert done.exit_code == expected, done.output
    return done.output


def test_given_tokens_are_added_once_and_revoked_ones_stay_revoked(url: str) -> None:
    migrate()
    for _ in range(2):
        migrate(ADMIN_TOKEN=ADMIN, METRICS_TOKEN=METRICS)
    database = Database(url)
    with database.writing() as session:
        assert [(token.name, token.role) for token in list_tokens(session)] == [("admin", "admin"), ("metrics", "read")]
        found = find_token(session, METRICS)
        assert found is not None
        assert found.role == "read"
        assert find_token(session, METRICS[:-1] + "u") is None
        revoke_token(session, METRICS.partition(".")[0])
    migrate(METRICS_TOKEN=METRICS)
    with database.reading() as session:
        assert find_token(session, METRICS) is None
        assert find_token(session, ADMIN) is not None
    database.close()


@pytest.mark.parametrize("token", ["hunter2", "tok_1.short", ADMIN[:-4], f"tok_{'0A' * 8}.{'s' * 43}", ADMIN + "\n"])
def test_a_weak_or_malformed_token_is_rejected_and_not_printed(url: str, token: str) -> None:
    output = migrate(2, ADMIN_TOKEN=token)
    assert "the token for admin is not of the form" in output
    assert token not in output
    database = Database(url)
    with database.reading() as session:
        assert list_tokens(session) == []
    database.close()
