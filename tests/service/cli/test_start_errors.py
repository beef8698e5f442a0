"""What prevents a service from starting is one sentence, which names the way out."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from service.cli.main import app
from service.cli.server.reasons import reason_of
from service.ownership import ForeignFileError
from service.settings import Settings, unknown_variables
from service.stack.control_plane import StartError, listen
from service.stack.data_directory import check_data_directory
from service.stack.ray_cluster import ray_cluster
from service.store import migrate
from tests.fixtures.small_disk import fill, needs_mount, small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = {
    "up": ["up", "--port", "0"],
    "serve": ["serve", "--port", "0"],
    "migrate": ["migrate"],
    "tokens": ["tokens", "list"],
}
OTHER = 54321  # an account without a name
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Restore what the commands change in their process."""
    environment, mask = dict(os.environ), os.umask(0o022)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    os.umask(mask)
    os.environ.clear()
    os.environ.update(environment)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def refused(command: str, data_dir: Path, code: int = 1, **variables: str) -> str:
    """The message of a command that does not start."""
    variables = {f"GRADFLEET_{name}": value for name, value in variables.items()}
    done = CliRunner().invoke(
        app, COMMANDS.get(command, [command]), env={"GRADFLEET_DATA_DIR": str(data_dir)} | variables
    )
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code, done.output
    (line,) = done.output.splitlines()
    assert line.startswith("gradfleet: ")
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MAX_PARAMETERS", "many", "GRADFLEET_MAX_PARAMETERS is wrong: input should be a valid integer"),
        ("MAX_BODY_SECONDS", "inf", "GRADFLEET_MAX_BODY_SECONDS is wrong: input should be a finite number"),
        ("ALLOWED_HOSTS", "one,two", 'GRADFLEET_ALLOWED_HOSTS is wrong: must be a list in JSON, such as ["first", "se'),
        ("RAY_ADDRESS", "ray://head", "GRADFLEET_RAY_ADDRESS is wrong: must be host:port, such as 127.0.0.1:6379"),
        ("RAY_ADDRESS", "head:99999", "GRADFLEET_RAY_ADDRESS is wrong: must be host:port, such as 127.0.0.1:6379"),
        (
            "DATABASE_URL",
            "mysql://host/name",
            "GRADFLEET_DATABASE_URL is wrong: must begin with postgresql:// or",
        ),
        ("DATABASE_URL", "sqlite://", "GRADFLEET_DATABASE_URL is wrong: must begin with postgresql:// or sqlite:///"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, command: str, name: str, value: str, expected: str) -> None:
    assert f"the setting {expected}" in refused(command, tmp_path / "data", **{name: value})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MAX_PARAMETRS", "there is no setting GRADFLEET_MAX_PARAMETRS; did you mean GRADFLEET_MAX_PARAMETERS?"),
        ("DATADIR", "there is no setting GRADFLEET_DATADIR; did you mean GRADFLEET_DATA_DIR?"),
        ("XYLOPHONE", "there is no setting GRADFLEET_XYLOPHONE"),
    ],
)
def test_a_misspelt_setting_is_refused(tmp_path: Path, command: str, name: str, expected: str) -> None:
    assert refused(command, tmp_path / "data", code=2, **{name: "1"}) == f"gradfleet: {expected}"


def test_every_variable_of_the_repository_is_known() -> None:
    """Those of the documentation, of the Compose and Kubernetes files, of the benchmarks and of the tests."""
    root = Path(__file__).parents[3]
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    texts = [(root / name).read_text(errors="replace") for name in files if (root / name).resolve() != Path(__file__)]
    names = set(re.findall(r"\bGRADFLEET_[A-Z_]*[A-Z]\b", "\n".join(texts)))
    assert {"GRADFLEET_DATABASE_PASSWORD", "GRADFLEET_TEST_RUN", "GRADFLEET_TOKEN", "GRADFLEET_DATA_DIR"} < names
    assert unknown_variables(names) == []


@pytest.mark.parametrize(("name", "value"), [("RAY_ADDRESS", "head:6379"), ("MLFLOW_URL", "http://mlflow")])
def test_up_refuses_settings_that_have_no_effect_on_it(tmp_path: Path, name: str, value: str) -> None:
    message = refused("up", tmp_path / "data", code=2, **{name: value})
    assert f"GRADFLEET_{name} has no effect on `gradfleet up`" in message
    assert message.endswith("unset it, or use `gradfleet serve`")


@pytest.mark.parametrize("command", ["up", "serve"])
def test_both_services_read_the_port_of_the_environment(tmp_path: Path, command: str) -> None:
    done = CliRunner().invoke(app, [command], env={"GRADFLEET_PORT": "abc", "GRADFLEET_DATA_DIR": str(tmp_path)})
    assert done.exit_code == 2
    expected = "(env var: 'GRADFLEET_PORT'): Input should be a valid integer"
    assert expected in " ".join(re.split(r"[\s│]+", done.output))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("directory", ["/proc/gradfleet", "/sys/gradfleet", "/dev/null", "/dev/null/data"])
def test_a_directory_that_cannot_be_created_is_named(command: str, directory: str) -> None:
    message = refused(command, Path(directory))
    assert directory in message
    assert message.endswith("choose another --data-dir")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_directory_that_every_account_can_write_is_refused(tmp_path: Path, command: str) -> None:
    tmp_path.chmod(0o1777)
    assert f"`chmod o-w {tmp_path}`, or choose another --data-dir" in refused(command, tmp_path)
    assert list(tmp_path.iterdir()) == []


ENTRIES = ["gradfleet.db", "gradfleet.db-wal", "certificate-key.pem", "lock", "other"]
DIRECTORIES = ["uploads", "datasets", "jobs", "mlflow", "ray-certificate"]


def give_away(path: Path) -> None:
    os.chown(path, OTHER, OTHER, follow_symlinks=False)


@needs_root
@pytest.mark.parametrize("command", [*COMMANDS, "demo"])
def test_a_directory_of_another_account_is_refused(tmp_path: Path, command: str) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o755)
    give_away(data_dir)
    message = refused(command, data_dir)
    assert f"{data_dir} belongs to the account {OTHER}" in message
    assert message.endswith("choose another --data-dir")
    assert list(data_dir.iterdir()) == []


@needs_root
@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_directory_in_one_of_another_account_is_refused(tmp_path: Path, command: str, sticky: bool) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(0o1777 if sticky else 0o755)
    give_away(parent)
    for data_dir in (parent / "new", parent / "new" / "deep", parent / "deep" / ".." / "new"):
        assert f"{parent} belongs to the account {OTHER}" in refused(command, data_dir)
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_directory_in_one_that_others_can_write_is_refused(tmp_path: Path, command: str) -> None:
    """In a sticky one, such as /tmp, others cannot replace it."""
    parent = tmp_path / "parent"
    (parent / "data").mkdir(parents=True)
    parent.chmod(0o777)
    assert f"every account of this machine may write to {parent}: " in refused(command, parent / "data")
    parent.chmod(0o1777)
    (parent / "link").symlink_to(parent / "data")
    for data_dir in (parent / "data", parent / "new", parent / "link", parent / "link" / "new"):
        check_data_directory(data_dir)


@needs_root
def test_a_link_of_another_account_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "between").symlink_to("data")
    (tmp_path / "link").symlink_to(tmp_path / "between")
    give_away(tmp_path / "between")
    message = refused("tokens", tmp_path / "link")
    assert f"{tmp_path}/between belongs to the account {OTHER}" in message


def test_links_that_form_a_loop_are_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    assert f"{tmp_path}/link: Too many levels of symbolic links" in refused("tokens", tmp_path / "link")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ENTRIES + DIRECTORIES)
def test_links_in_a_data_directory_are_refused(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    message = refused(command, tmp_path / "data")
    assert f"{tmp_path}/data/{name} is a link" in message
    assert message.endswith("choose another --data-dir")
    assert not (tmp_path / "elsewhere").exists()


@needs_root
@pytest.mark.parametrize("name", ENTRIES + DIRECTORIES)
def test_files_of_another_account_in_a_data_directory_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name in DIRECTORIES else path.touch()
    give_away(path)
    assert f"{path} belongs to the account {OTHER}" in refused("serve", tmp_path)


@pytest.mark.parametrize("name", ["gradfleet.db", "certificate-key.pem", "jobs", "mlflow"])
def test_files_that_others_can_write_in_a_data_directory_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name in DIRECTORIES else path.touch()
    path.chmod(0o777)
    assert f"every account of this machine may write to {path}: `chmod o-w {path}`" in refused("migrate", tmp_path)


@needs_root
def test_volumes_of_root_and_of_the_group_of_the_account_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes gives a volume to root and to the group of the pod, and others may put files into the uploads."""
    data_dir = tmp_path / "data"
    (data_dir / "uploads").mkdir(parents=True)
    (data_dir / "uploads").chmod(0o777)
    (data_dir / "ray").symlink_to(tmp_path / "gone")
    monkeypatch.setattr("os.geteuid", lambda: 10001)
    os.chown(data_dir, 0, 10001)
    data_dir.chmod(0o2775)
    with pytest.raises(ForeignFileError, match=r"the group 10001, of which this account is no member, may write to"):
        check_data_directory(data_dir)
    monkeypatch.setattr("os.getegid", lambda: 10001)
    check_data_directory(data_dir)


@pytest.mark.parametrize("command", ["migrate", "tokens"])
@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
def test_no_database_is_created_through_a_link(tmp_path: Path, command: str, ending: str) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / f"x.db{ending}").symlink_to(tmp_path / "elsewhere")
    url = f"sqlite:///{tmp_path}/db/x.db"
    assert f"{tmp_path}/db/x.db{ending} is a link" in refused(command, tmp_path / "data", DATABASE_URL=url)
    assert not (tmp_path / "elsewhere").exists()
    assert [entry.name for entry in (tmp_path / "db").iterdir()] == [f"x.db{ending}"]


@needs_mount
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_is_named(tmp_path: Path, command: str, existing: bool) -> None:
    with small_disk(tmp_path):
        if existing:
            migrate(Settings(data_dir=tmp_path).database)
        fill(tmp_path / "filler")
        if command in {"migrate", "tokens"} and existing:
            return  # nothing needs to be written
        message = refused(command, tmp_path)
    assert str(tmp_path) in message
    assert message.endswith("make space, or choose another --data-dir")


@needs_mount
@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_disk_is_named(tmp_path: Path, command: str) -> None:
    with small_disk(tmp_path, read_only=True):
        message = refused(command, tmp_path)
    assert str(tmp_path) in message
    assert message.endswith(", or choose another --data-dir")


def test_a_file_of_another_account_is_named(tmp_path: Path) -> None:
    message = reason_of(PermissionError(13, "Permission denied", str(tmp_path / "lock")), tmp_path)
    assert message == (
        f"{tmp_path}/lock: Permission denied: give this account permission to write there, or choose another --data-dir"
    )


def damage(path: Path, kind: str) -> None:
    """Damage a database: replace it, cut it, or overwrite a page that only some queries read."""
    if kind == "another file":
        path.write_bytes(b"# not a database\n" * 1000)
    elif kind == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        with path.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)


@pytest.mark.parametrize("kind", ["another file", "truncated", "a page"])
@pytest.mark.parametrize("name", ["gradfleet.db", "mlflow/mlflow.db"])
def test_a_damaged_database_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "mlflow").mkdir()
    migrate(Settings(data_dir=tmp_path).database)
    (tmp_path / "gradfleet.db").rename(tmp_path / name)
    damage(tmp_path / name, kind)
    message = refused("up", tmp_path)
    assert f"the database {tmp_path / name} is damaged" in message
    assert message.endswith("restore it from a backup, or move it away to start with an empty one")


@pytest.mark.parametrize("command", ["serve", "migrate", "tokens"])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, command: str) -> None:
    damage(tmp_path / "gradfleet.db", "another file")
    assert f"the database {tmp_path}/gradfleet.db is damaged (file is not a database)" in refused(command, tmp_path)


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_url: str) -> None:
        raise KeyError("a fault of the program")

    monkeypatch.setattr("service.store.migrate", fail)
    done = CliRunner().invoke(app, ["tokens", "list", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, KeyError)


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLEET_DATABASE_URL", "postgresql://user:secret@host/name")
    message = reason_of(OperationalError("SELECT 1", {}, Exception("connection refused")), None)
    assert message == "the database of GRADFLEET_DATABASE_URL does not answer: connection refused"


@pytest.mark.parametrize(
    ("host", "option"), [("host.invalid", "--host"), ("a..b", "--host"), ("192.0.2.1", "--host"), ("[::1]", "--host")]
)
def test_an_address_that_cannot_be_used_is_named(host: str, option: str) -> None:
    with pytest.raises(StartError, match=rf"cannot listen on {re.escape(host)}.*try another {option}"), listen(host, 0):
        pass


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port}.*try another --port"), listen("127.0.0.1", port):
            pass


@pytest.mark.parametrize("length", [31, 200])
def test_a_long_directory_for_temporary_files_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """The paths of Ray's sockets would be longer than the system allows."""
    long = tmp_path / ("t" * max(1, length - len(str(tmp_path)) - 1))
    long.mkdir()
    used: list[str] = []
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setattr("service.stack.ray_cluster.RayCluster.start", lambda cluster: used.append(cluster.directory))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with ray_cluster(data_dir, Settings()):
        assert len(f"{used[0]}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store") <= 107
        assert Path(used[0]).parent.stat().st_mode & 0o777 == 0o700
