"""The settings, secrets, metrics and files that the deployment files name exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.main import get_command

from service.access.tokens import GIVEN
from service.cli.main import app
from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SETTINGS = {f"GRADFLEET_{name.upper()}" for name in Settings.model_fields}
# Used by the command line, and for building another variable.
BESIDE_SETTINGS = {"GRADFLEET_PORT", "GRADFLEET_DATABASE_PASSWORD"}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def example() -> set[str]:
    return set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def every(value: Any, key: str) -> Iterator[Any]:
    """Yield the values of a key at any depth."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        if name == key:
            yield entry
        yield from every(entry, key)


@pytest.mark.parametrize("path", [COMPOSE, *MANIFESTS], ids=lambda path: path.name)
def test_variables_of_the_service_are_settings(path: Path) -> None:
    names = set(re.findall(r"\bGRADFLEET_[A-Z_]+(?=:|,|\})", path.read_text())) - {"GRADFLEET_VERSION"}
    assert names <= SETTINGS | BESIDE_SETTINGS, names - SETTINGS - BESIDE_SETTINGS


def test_write_env_creates_every_required_secret(tmp_path: Path) -> None:
    text = COMPOSE.read_text()
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert required == example()
    defaults = re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text)
    assert not [name for name, _ in defaults if re.search("PASSWORD|TOKEN|SECRET", name)]

    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / "write-env"
    script.write_bytes((DEPLOY / "write-env").read_bytes())
    subprocess.run([sys.executable, script], check=True)
    written = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert written.keys() == required
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert len(set(written.values())) == len(written)
    for name in ("GRADFLEET_ADMIN_TOKEN", "GRADFLEET_METRICS_TOKEN"):
        assert GIVEN.fullmatch(written[name])
    # They are used in URLs without escaping.
    assert all(re.fullmatch(r"[\w.-]{40,}", value) for value in written.values())


def test_write_env_adds_secrets_of_a_new_release_and_changes_no_other_line(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / "write-env"
    script.write_bytes((DEPLOY / "write-env").read_bytes())
    path = tmp_path / ".env"
    # As a former release wrote it, with a setting of the user at the end, without a line end.
    former = "".join(f"{name}=former-{name}\n" for name in sorted(example() - {"GRADFLEET_MLFLOW_SECRET"}))
    path.write_text(former + "API_PORT=8001")
    path.chmod(0o600)
    subprocess.run([sys.executable, script], check=True)
    completed = path.read_text()
    assert re.fullmatch(r"GRADFLEET_MLFLOW_SECRET=[0-9a-f]{64}\n", completed.removeprefix(former + "API_PORT=8001\n"))
    subprocess.run([sys.executable, script], check=True)
    assert path.read_text() == completed


def test_optional_variables_are_listed_with_their_defaults() -> None:
    used = dict(re.findall(r"\$\{([A-Z_]+):?-([^}]*)\}", COMPOSE.read_text()))
    listed = dict(re.findall(r"^# ([A-Z_]+)=(\S*)", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert listed == used


def test_secrets_in_manifests_are_created_by_write_env() -> None:
    keys = {
        entry["key"] for path in MANIFESTS for document in documents(path) for entry in every(document, "secretKeyRef")
    }
    assert keys
    assert keys <= example()


def test_only_api_mlflow_and_grafana_are_published_and_on_localhost() -> None:
    services = documents(COMPOSE)[0]["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"api", "mlflow", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert services["grafana"]["profiles"] == ["monitoring"]


def test_mounted_and_copied_files_exist() -> None:
    mounted = re.findall(r"- \./(\S+?):", COMPOSE.read_text())
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    named = [*mounted, *" ".join(copied).split()]
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in " ".join(copied).split():
        assert any(Path(name.rstrip("/")).match(line[1:]) for line in ignored if line.startswith("!")), name


def test_commands_of_containers_exist() -> None:
    everything = [document for path in (COMPOSE, *MANIFESTS) for document in documents(path)]
    lines = [command if isinstance(command, str) else " ".join(command) for command in every(everything, "command")]
    commands = {command for line in lines for command in re.findall(r"\bgradfleet (\S+)", line)}
    assert commands == {"serve", "migrate"}
    assert commands <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_mlflow_runs_behind_the_door_and_with_tokens() -> None:
    compose = documents(COMPOSE)[0]["services"]["mlflow"]
    kubernetes = next(every(documents(DEPLOY / "kubernetes" / "mlflow.yaml"), "containers"))[0]
    environments = [compose["environment"], {entry["name"]: entry.get("value", entry) for entry in kubernetes["env"]}]
    for container, environment in zip((compose, kubernetes), environments, strict=True):
        assert re.findall(r"mlflow server.*", container["command"][-1]) == ["mlflow server --app-name gradfleet"]
        assert environment["GRADFLEET_REQUIRE_TOKEN"] == "true"
        assert "GRADFLEET_DATABASE_URL" in environment
        assert "GRADFLEET_MLFLOW_SECRET" in environment
        assert environment["GRADFLEET_ALLOWED_HOSTS"] == '["mlflow"]'
        # MLflow's own checks, which the door replaces.
        assert not [name for name in environment if name.startswith("MLFLOW_SERVER")]


def test_metrics_of_alerts_and_dashboard_are_documented() -> None:
    texts = [path.read_text() for path in (DEPLOY / "monitoring").rglob("*") if path.suffix in {".yml", ".json"}]
    metrics = set(re.findall(r"\bgradfleet_\w+", "\n".join(texts)))
    documented = set(re.findall(r"\| `(gradfleet_\w+)", (ROOT / "docs" / "observability.md").read_text()))
    assert len(metrics) > 8
    assert {re.sub("_bucket$", "", metric) for metric in metrics} <= documented
