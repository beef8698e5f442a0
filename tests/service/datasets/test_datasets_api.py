from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.service.fixtures.support import CLASSES, FEATURES, ROWS, write_parquet

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from service.settings import Settings


def register(api: httpx.Client, path: str | Path, name: str = "digits", label: str = "label") -> httpx.Response:
    return api.post("/v1/datasets", json={"name": name, "path": str(path), "label": label})


def test_a_registered_dataset_is_described(api: httpx.Client, digits: dict[str, Any]) -> None:
    assert (digits["rows"], digits["features"], len(digits["classes"])) == (ROWS, FEATURES, CLASSES)
    assert len(digits["digest"]) == 64
    assert api.get("/v1/datasets/digits").json().items() >= digits.items()
    assert api.get("/v1/datasets").json() == {"data": [digits]}


def test_registering_again(api: httpx.Client, digits: dict[str, Any], uploads: Path) -> None:
    again = register(api, uploads / "digits.parquet")
    assert (again.status_code, again.json()) == (200, {**digits, "warnings": []})
    write_parquet(uploads / "other.parquet", seed=1)
    other = register(api, "other.parquet")
    assert (other.status_code, other.json()["version"]) == (201, 2)
    renamed = register(api, "other.parquet", name="others é")
    assert (renamed.status_code, renamed.json()["version"]) == (201, 1)
    assert api.get(renamed.headers["location"]).json().items() >= renamed.json().items()


def test_versions(api: httpx.Client, digits: dict[str, Any], uploads: Path) -> None:
    write_parquet(uploads / "other.parquet", seed=1)
    second = register(api, "other.parquet").json()
    for name, expected in (("digits", second), ("digits@2", second), ("digits@1", digits)):
        found = api.get(f"/v1/datasets/{name}").json()
        assert found.items() >= expected.items()
        assert [version["version"] for version in found["versions"]] == [2, 1]
    for unknown in ("digits@3", "digits@0", "digits@", "@1", "digits@01"):
        assert api.get(f"/v1/datasets/{unknown}").status_code == 404
        detail = api.get(f"/v1/datasets/{unknown}").json()["detail"]
        assert ("its versions are 2, 1" in detail) == unknown.startswith("digits"), detail
        assert "did you mean" not in detail
    assert api.get("/v1/datasets").json() == {"data": [{field: second[field] for field in digits}]}
    again = register(api, "digits.parquet")
    assert (again.status_code, again.json()) == (200, {**digits, "warnings": []})
    rejected = register(api, "other.parquet", name="digits@2")
    assert rejected.status_code == 422
    assert "version" in rejected.json()["errors"][0]["message"]


def test_only_files_below_the_allowed_roots_are_accepted(api: httpx.Client, uploads: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.parquet"
    write_parquet(outside)
    (uploads / "link.parquet").symlink_to(outside)
    (uploads / "loop").symlink_to(uploads / "loop")
    (uploads / "directory").mkdir()
    sibling = uploads.with_name("uploads-not")
    sibling.mkdir()
    write_parquet(sibling / "x.parquet")
    rejected = {
        str(outside): "outside",
        "../../outside.parquet": "outside",
        "link.parquet": "outside",
        str(sibling / "x.parquet"): "outside",
        "missing.parquet": "not a file",
        "directory": "empty folder",
        "loop": "not a file",
        "x" * 3000: "not a file",
        "a\0b": "NUL",
    }
    for path, word in rejected.items():
        answer = register(api, path)
        assert answer.status_code == 422, path
        (error,) = answer.json()["errors"]
        assert error["field"] == "path", path
        assert word in error["message"], path


def test_invalid_files_are_rejected(api: httpx.Client, uploads: Path) -> None:
    (uploads / "text.parquet").write_text("no parquet")
    write_parquet(uploads / "good.parquet")
    for answer, word in (
        (register(api, "text.parquet"), "Parquet"),
        (register(api, "good.parquet", label="nothing"), "'nothing'"),
    ):
        assert answer.status_code == 422
        assert word in answer.json()["errors"][0]["message"]
    assert api.get("/v1/datasets").json() == {"data": []}


@pytest.mark.parametrize("name", ["", "a/b", "..", " a", "a\n"])
def test_names_that_do_not_fit_in_a_url_are_rejected(api: httpx.Client, uploads: Path, name: str) -> None:
    write_parquet(uploads / "good.parquet")
    answer = register(api, "good.parquet", name=name)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "name"


@pytest.mark.parametrize("damage", ["four bytes", "cut short", "gone", "empty", "another file"])
def test_registering_again_repairs_a_damaged_file(
    api: httpx.Client, digits: dict[str, Any], uploads: Path, settings: Settings, damage: str
) -> None:
    (file,) = settings.dataset_dir.glob("*.arrow")
    whole = file.read_bytes()
    preview = api.get("/v1/datasets/digits/preview").json()
    middle = len(whole) // 2
    flipped = bytes(byte ^ 0x10 for byte in whole[middle : middle + 4])
    file.unlink()
    if damage != "gone":
        file.write_bytes(
            {
                "four bytes": whole[:middle] + flipped + whole[middle + 4 :],
                "cut short": whole[: len(whole) // 3],
                "empty": b"",
                "another file": b"x" * len(whole),
            }[damage]
        )
    refused = api.get("/v1/datasets/digits/preview")
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("'digits' cannot be shown: the dataset's file is ")
    assert "register the dataset again" in refused.json()["detail"]
    again = register(api, uploads / "digits.parquet")
    assert (again.status_code, again.json()) == (200, {**digits, "warnings": []})
    assert file.read_bytes() == whole
    assert api.get("/v1/datasets/digits/preview").json() == preview


@pytest.mark.usefixtures("digits")
def test_registering_again_keeps_a_whole_file(api: httpx.Client, uploads: Path, settings: Settings) -> None:
    """Jobs that run have it open."""
    (file,) = settings.dataset_dir.glob("*.arrow")
    before = file.stat().st_ino
    register(api, uploads / "digits.parquet")
    assert file.stat().st_ino == before
