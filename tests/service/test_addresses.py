from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.addresses import host_and_port, http_url
from service.settings import Settings
from service.store import Database, migrate

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:6379", ("127.0.0.1", 6379)),
        ("ray-head:1", ("ray-head", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_has_a_host_and_a_port(address: str, expected: tuple[str, int]) -> None:
    assert host_and_port(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "head",
        ":6379",
        "head:",
        "head:0",
        "head:65536",
        "head:x",
        "::1:6379",
        "[::1",
        "a/b:1",
        "ray://a:1",
        "u@a:1",
        "a:1?b",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"must be host:port, such as 127\.0\.0\.1:6379"):
        host_and_port(address)


def test_ipv6_addresses_are_bracketed_in_urls() -> None:
    assert http_url("::1", 8000) == "http://[::1]:8000"
    assert http_url("localhost", 8000) == "http://localhost:8000"


@pytest.mark.parametrize(
    "name", ["a?b=1", "100%20", "%", "a#b", "a&b", "a b", "ü", "a:b", "a@b", "a'b", 'a"b', "::memory::"]
)
def test_the_database_is_in_the_data_directory_whatever_its_name_is(tmp_path: Path, name: str) -> None:
    data_dir = tmp_path / "one" / name
    url = Settings(data_dir=data_dir).database
    migrate(url)
    database = Database(url)
    with database.reading() as session:
        assert place_of(session) == data_dir / "gradfleet.db"
    database.close()
    assert [path.name for path in (tmp_path / "one").iterdir()] == [name]


def place_of(session: Session) -> Path:
    """The file that SQLite itself says it uses."""
    return Path(session.connection().exec_driver_sql("PRAGMA database_list").one()[2])
