from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings


def test_everything_lies_below_the_data_directory_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLEET_DATA_DIR", "/data")
    settings = Settings()
    assert settings.database == "sqlite:////data/gradfleet.db"
    assert settings.allowed_roots == [Path("/data/uploads")]
    assert settings.job_dir("job_1") == Path("/data/jobs/job_1")
    assert settings.mlflow_link is None


@pytest.mark.parametrize(
    ("public", "link"),
    [(None, "http://mlflow:5000/base"), ("https://user:word@runs.example/", "https://runs.example")],
)
def test_links_to_mlflow_carry_no_credentials(public: str | None, link: str) -> None:
    settings = Settings(mlflow_url="http://admin:secret@mlflow:5000/base/", mlflow_public_url=public)
    assert settings.mlflow_link == link
