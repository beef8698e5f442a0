"""A file or folder that becomes a link after it was checked is not followed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from service.datasets.files.opening import open_file, open_mapped
from service.datasets.files.places import PlaceError, _walk, find_files
from service.datasets.preparation.preparation import Selection
from service.settings import Settings
from tests.fixtures.prepared import prepared
from tests.service.datasets.mutations import KINDS
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


def exchange_for_link(path: Path, target: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(target)


@pytest.mark.parametrize("exchanged", ["file", "folder", "uploads"])
@pytest.mark.parametrize("name", KINDS)
def test_each_format_is_read_without_following_links(tmp_path: Path, uploads: Path, name: str, exchanged: str) -> None:
    file = uploads / "folder" / name
    file.parent.mkdir()
    file.write_bytes(KINDS[name](bytes))
    found, _ = find_files("path", f"folder/{name}", [uploads])
    outside = tmp_path / "outside"
    shutil.copytree(uploads, outside)
    path, target = {
        "file": (file, outside / "folder" / name),
        "folder": (file.parent, outside / "folder"),
        "uploads": (uploads, outside),
    }[exchanged]
    exchange_for_link(path, target)
    assert file.is_file(), "the path leads to a file"
    with pytest.raises(DatasetError, match=f"{name} cannot be read: (Too many levels of symbolic|Not a directory)"):
        prepared(found, tmp_path / "data", Selection())
    assert list((tmp_path / "data").iterdir()) == []


def test_files_that_are_unpacked_or_mapped_may_be_exchanged_between_two_reads(tmp_path: Path, uploads: Path) -> None:
    """Each read opens the file anew and checks the path again."""
    (uploads / "t.csv").write_text("a,label\n1,x\n2,y\n")
    (path,), _ = find_files("path", "t.csv", [uploads])
    with open_file(path) as file:
        assert file.read(1) == b"a"
    assert open_mapped(path).read(1) == b"a"
    exchange_for_link(path, tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    for read in (open_file, open_mapped):
        with pytest.raises(DatasetError, match=r"t.csv cannot be read"):
            read(path)


def test_a_folder_that_becomes_a_link_is_not_listed(tmp_path: Path, uploads: Path) -> None:
    (uploads / "folder" / "deep").mkdir(parents=True)
    (uploads / "folder" / "deep" / "t.csv").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    walk = _walk("path", uploads / "folder")
    assert next(walk) == (".", ["deep"], [])
    exchange_for_link(uploads / "folder" / "deep", tmp_path / "outside")
    assert list(walk) == []
    exchange_for_link(uploads / "folder", tmp_path / "outside")
    with pytest.raises(PlaceError):
        next(_walk("path", uploads / "folder"))


def test_uploads_that_become_a_link_lead_nowhere(tmp_path: Path, uploads: Path) -> None:
    """Also the first look at a path does not follow it, whatever is there."""
    (uploads / "t.csv").write_text("a,label\n1,x\n2,y\n")
    exchange_for_link(uploads, tmp_path / "secrets")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "t.csv").write_text("a,label\n1,secret\n2,y\n")
    for path in ("t.csv", ".", "", str(uploads / "t.csv"), str(tmp_path / "secrets" / "t.csv")):
        with pytest.raises(PlaceError, match="is outside the directories for datasets"):
            find_files("path", path, [uploads])


def test_roots_of_the_settings_may_be_links_when_the_service_starts(tmp_path: Path, uploads: Path) -> None:
    (uploads / "t.csv").write_text("a,label\n1,x\n2,y\n")
    (tmp_path / "link").symlink_to(uploads)
    settings = Settings(data_roots=[tmp_path / "link"])
    assert settings.allowed_roots == [uploads]
    (found,), _ = find_files("path", "t.csv", settings.allowed_roots)
    assert found == uploads / "t.csv"


def test_links_within_the_uploads_are_followed(uploads: Path) -> None:
    (uploads / "folder").mkdir()
    (uploads / "folder" / "t.csv").write_text("a,label\n1,x\n2,y\n")
    (uploads / "absolute").symlink_to(uploads / "folder")
    (uploads / "relative.csv").symlink_to("folder/t.csv")
    for path in ("absolute/t.csv", "relative.csv", "absolute"):
        (found,), _ = find_files("path", path, [uploads])
        with open_file(found) as file:
            assert file.read(7) == b"a,label"


def test_files_without_content_are_not_opened(tmp_path: Path, uploads: Path) -> None:
    """A FIFO would wait for a writer, and a device has no end."""
    os.mkfifo(uploads / "t.csv")
    with pytest.raises(PlaceError, match="not a file"):
        find_files("path", "t.csv", [uploads])
    for path in (uploads / "t.csv", uploads, tmp_path.__class__("/dev/zero")):
        with pytest.raises(DatasetError, match="not a file with content"):
            open_file(path)
    (uploads / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(PlaceError, match="outside"):
        find_files("path", "zero.csv", [uploads])
