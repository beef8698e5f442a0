"""Invalid files are rejected. The error names the file, column and row, and no file remains in the data directory."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.datasets.files import unpacking
from service.datasets.preparation.preparation import Selection
from tests.fixtures.prepared import prepared
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 1024 * 1024
GOOD = pd.DataFrame({"a": np.arange(100) * 0.5, "b": np.arange(100) + 5, "label": list("xy") * 50})


def error_of(tmp_path: Path, *files: Path, **selection: Any) -> str:
    """The error message. Checks that no file remains and that the message has no absolute path."""
    (tmp_path / "data").mkdir(exist_ok=True)
    with pytest.raises(DatasetError) as caught:
        prepared(files, tmp_path / "data", Selection(**selection), max_bytes=LIMIT)
    assert list((tmp_path / "data").iterdir()) == []
    assert str(tmp_path) not in str(caught.value)
    return str(caught.value)


def idx_header(kind: int, *shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


CSV_HEAD = "a,b,label\n1,2,x\n3,4,y\n"

# The content of the file and the words that must be in the message.
TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "too few fields": (CSV_HEAD + "5,x\n", ("t.csv", "line 4", "Expected 3 columns, got 2")),
    "too many fields": (CSV_HEAD + "5,6,x,7\n", ("t.csv", "line 4", "Expected 3 columns, got 4")),
    "no label": (CSV_HEAD + "5,6,\n", ("t.csv", "'label'", "line 4", "no label")),
    "infinity": (CSV_HEAD + "-inf,6,x\n", ("t.csv", "'a'", "line 4", "finite")),
    "beyond 32 bits": (CSV_HEAD + "1e39,6,x\n", ("t.csv", "'a'", "line 4", "finite")),
    "nothing": ("", ("t.csv", "Empty")),
    "only a header": ("a,label\n", ("0 rows", "at least 2")),
    "no header": ("1.5,2,7\n3,4,8\n", ("'label'", "its columns are column_1, column_2, column_3")),
    "duplicate column": ("a,a,label\n1,2,x\n", ("t.csv", "'a'")),
    "one class": ("a,label\n1,x\n2,x\n", ("'label'", "'x'", "2 classes")),
    "no such column": ("a,b\n1,2\n", ("'label'", "a, b")),
    "no text in a row": ("a,label\n1,\udc81\n2,y\n", ("t.csv", "line 2", "UTF-8", "Latin-1")),
    "no text in the header": ("\udc81PNG,label\n1,x\n", ("t.csv", "line 1", "UTF-8")),
    "no UTF-8 after text in UTF-8": ("a,label\n1,é\n2,\udce9\n", ("t.csv", "line 3", "UTF-8")),
    "unclosed quotation mark": ('a,label\n1,"x\n2,y\n', ("has 1 row;",)),
    "missing fields after rows of several lines": ('a,label\n1,"x\nz"\n\n2,x\n\n3\n', ("line 7", "got 1")),
    "a line without an end": ("a,label\n" + "x" * 20 * 2**20, ("t.csv", "a line is longer than 8388608 bytes")),
    "a quotation mark without an end": (
        'a,label\n1,"' + "2,x\n" * 5 * 2**20,
        ("t.csv", "a quotation mark is not closed"),
    ),
    "a column name without an end": ("x" * 9 * 2**20, ("t.csv", "field larger than field limit")),
    "a long column name": (f"{'x' * 201},label\n1,x\n2,y\n", ("t.csv", "201 characters", "at most 200")),
    "long names of columns": (",".join(f"{'x' * 190}{i}" for i in range(6000)) + "\n", ("t.csv", "at most 1048576")),
    "too many columns": (",".join(map("c{}".format, range(60_000))) + "\n1", ("t.csv has 60000 columns", "32768")),
    "a million columns": (",".join(map("c{}".format, range(10**6))) + "\n1", ("t.csv has 1000000 columns", "32768")),
    "a long label": (f"a,label\n1,x\n2,{'y' * 201}\n", ("t.csv", "'label'", "line 3", "201 characters", "200")),
    "long labels": ("a,label\n" + "".join(f"1,{'y' * 180}{i}\n" for i in range(6000)), ("'label'", "1048576 bytes")),
    "too many labels": ("a,label\n" + "".join(f"1,y{i}\n" for i in range(200_000)), ("line 65538", "number 65537")),
}


@pytest.mark.parametrize("case", TEXTS)
def test_bad_csv(tmp_path: Path, case: str) -> None:
    text, words = TEXTS[case]
    (tmp_path / "t.csv").write_bytes(text.encode(errors="surrogateescape"))
    message = error_of(tmp_path, tmp_path / "t.csv")
    for word in words:
        assert word in message, message


# Tables whose column 'a' or 'b' has the targets.
NO_TARGETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "text in a column of numbers": (CSV_HEAD + "5,many,x\n", ("t.csv", "'b'", "'many'", "line 4", "not a number")),
    "empty number": (CSV_HEAD + "5,,x\n", ("t.csv", "'b'", "line 4", "no value")),
    "not a number": (CSV_HEAD + "nan,6,x\n", ("t.csv", "'a'", "line 4", "no value")),
    "infinity": (CSV_HEAD + "-inf,6,x\n", ("t.csv", "'a'", "line 4", "finite")),
    "text in another order of columns": ("label,a,b\nx,1,2\ny,foo,3\n", ("t.csv", "'a'", "'foo'", "line 3")),
    "text after rows of several lines": (
        'b,a,label\n2,1,"x\nz"\n\n2,2,x\n\n2,foo,y\n',
        ("'a'", "'foo'", "line 7"),
    ),
    "no number after rows of several lines": (
        'b,a,label\n2,1,"x\nz"\n\n2,2,x\n\n2,,y\n',
        ("'a'", "no value", "line 7"),
    ),
}


@pytest.mark.parametrize("case", NO_TARGETS)
def test_targets_that_are_no_numbers(tmp_path: Path, case: str) -> None:
    text, words = NO_TARGETS[case]
    (tmp_path / "t.csv").write_text(text)
    message = error_of(tmp_path, tmp_path / "t.csv", targets=["a", "b"], label=None)
    for word in words:
        assert word in message, message


# The content of an IDX file of images; a second file has three labels.
IMAGES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "another magic": (b"\x89PNG" + bytes(20), ("images.idx", "not an IDX file", "89 50 4e 47")),
    "nothing": (b"", ("images.idx", "nothing")),
    "unknown type": (b"\0\0\x0a\x01" + bytes(20), ("images.idx", "not an IDX file")),
    "truncated header": (idx_header(8, 3, 2, 2)[:9], ("images.idx", "cut short", "9 bytes")),
    "truncated": (idx_header(8, 3, 2, 2) + bytes(11), ("images.idx", "27 bytes", "28")),
    "too long": (idx_header(8, 3, 2, 2) + bytes(13), ("images.idx", "29 bytes", "28")),
    "very large size": (idx_header(8, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(9), ("images.idx", "25 bytes")),
    "empty images": (idx_header(8, 3, 0, 2), ("images.idx", "(3, 0, 2)")),
    "fewer images than labels": (idx_header(8, 2, 2, 2) + bytes(8), ("images.idx has 2", "labels.idx has 3")),
}


@pytest.mark.parametrize("case", IMAGES)
def test_bad_idx(tmp_path: Path, case: str) -> None:
    content, words = IMAGES[case]
    (tmp_path / "labels.idx").write_bytes(idx_header(8, 3) + b"\0\1\0")
    (tmp_path / "images.idx").write_bytes(content)
    message = error_of(tmp_path, tmp_path / "images.idx", tmp_path / "labels.idx")
    for word in words:
        assert word in message, message


def test_bad_cifar(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073 * 2 - 1))
    assert "data_batch_1.bin has 6145 bytes" in error_of(tmp_path, tmp_path / "data_batch_1.bin")


def test_training_and_test_files_of_different_shapes(tmp_path: Path) -> None:
    for part, side in (("train", 2), ("t10k", 3)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_header(8, 2, side, side) + bytes(2 * side * side))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_header(8, 2) + b"\0\1")
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    message = error_of(tmp_path, *files, split="split")
    for words in ("train have the columns", "uint8[2, 2]", "those of test", "uint8[3, 3]"):
        assert words in message
    alone = [file for file in files if file.name.startswith("train")]
    assert "no split column 'split'; its columns are image, label" in error_of(tmp_path, *alone, split="split")


def test_bad_arrays(tmp_path: Path) -> None:
    label = tmp_path / "label.npy"
    np.save(label, [0, 1, 0])
    for name, array, words in (
        ("pickles", np.array([{}, {}, {}]), ("x.npy", "Python objects")),
        ("complex", np.ones(3, complex), ("x.npy", "complex128")),
        ("times", np.zeros(3, "M8[s]"), ("x.npy", "datetime64")),
        ("records", np.zeros(3, [("a", int)]), ("x.npy",)),
        ("a single number", np.array(3), ("x.npy", "rows")),
        ("fewer rows", np.ones((2, 2)), ("x 2", "label 3")),
    ):
        np.save(tmp_path / "x.npy", array)
        message = error_of(tmp_path, tmp_path / "x.npy", label)
        for word in words:
            assert word in message, f"{name}: {message}"
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    whole = (tmp_path / "x.npy").read_bytes()
    for length in (0, 5, 60, len(whole) - 1):
        (tmp_path / "x.npy").write_bytes(whole[:length])
        assert "x.npy" in error_of(tmp_path, tmp_path / "x.npy", label)


def test_ragged_lists(tmp_path: Path) -> None:
    pd.DataFrame({"a": [[1, 2], [3, 4], [5]], "label": list("xyx")}).to_parquet(tmp_path / "t.parquet")
    message = error_of(tmp_path, tmp_path / "t.parquet")
    assert "t.parquet: column 'a' in row 3 has a list of 1 number and" in message
    assert "one of 2" in message


def test_files_with_different_columns(tmp_path: Path) -> None:
    GOOD.to_parquet(tmp_path / "0.parquet")
    for columns, words in (
        (GOOD.drop(columns="b"), ("1.parquet", "'b'")),
        (GOOD.assign(label=range(100)), ("1.parquet", "'label'", "another type")),
        (GOOD.assign(b="many"), ("1.parquet", "'b'", "string")),
        (GOOD.assign(b=[[1, 2]] * 100), ("1.parquet", "'b'", "row 1", "2 numbers")),
        (GOOD.assign(label=[*["x"] * 70, None, *["y"] * 29]), ("1.parquet", "'label'", "row 71")),
    ):
        columns.to_parquet(tmp_path / "1.parquet")
        message = error_of(tmp_path, tmp_path / "0.parquet", tmp_path / "1.parquet")
        for word in words:
            assert word in message, message


def test_a_label_that_is_not_one_of_the_given_classes(tmp_path: Path) -> None:
    GOOD.to_parquet(tmp_path / "t.parquet")
    assert "row 2 has 'y'" in error_of(tmp_path, tmp_path / "t.parquet", classes=["x", "z"])
    GOOD.to_csv(tmp_path / "t.csv")
    assert "line 2 has 5" in error_of(
        tmp_path, tmp_path / "t.csv", classes=["x", "z"], label="b", features=["a"]
    ).replace("'", "")


def test_selections_that_do_not_match_the_file(tmp_path: Path) -> None:
    GOOD.to_parquet(tmp_path / "t.parquet")
    source = tmp_path / "t.parquet"
    for selection, words in (
        ({"features": ["c_*"]}, ("'c_*'", "a, b, label")),
        ({"features": ["label"]}, ("no feature", "'label'")),
        ({"targets": ["price"], "label": None}, ("'price'",)),
        ({"targets": ["label"], "label": None}, ("'label'", "string")),
        ({"shape": [2, 2]}, ("2 numbers", "2 x 2", "4")),
        ({"shape": [2]}, ("height", "[2]")),
        ({"classes": ["x"]}, ("at least 2", "x")),
        ({"classes": ["x", "y", "x"]}, ("different", "x, y, x")),
        ({"format": "npy"}, ("t.parquet", "NumPy")),
        ({"format": "idx"}, ("t.parquet", "not an IDX file")),
        ({"format": "arrow"}, ("t.parquet", "Arrow")),
    ):
        message = error_of(tmp_path, source, **selection)
        for word in words:
            assert word in message, message
    (tmp_path / "notes.txt").write_text("hello")
    assert "notes.txt" in error_of(tmp_path, tmp_path / "notes.txt")
    assert "empty" in error_of(tmp_path)


def write_zip(path: Path, names: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)


def bomb_of_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(idx_header(8, 2**25) + bytes(2**25)))


def bomb_of_zip(path: Path) -> None:
    np.savez_compressed(path, x=np.zeros((2**22, 1)), label=np.zeros(2**22, np.int64))


def bomb_of_tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("data_batch_1.bin")
        info.size = 2**25
        archive.addfile(info, io.BytesIO(bytes(2**25)))


def header(path: Path, size: int) -> None:
    """A .tar of one member whose header has a comment of `size` bytes."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, size
    comment = f"{size} comment=".encode()
    path.write_bytes(gzip.compress(info.tobuf() + comment + b"a" * (size - len(comment)) + bytes(2048)))


def hidden_members(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for number in range(1_001):
            archive.addfile(tarfile.TarInfo(f".{number}"))


def hidden_members_of_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1_001):
            archive.writestr(zipfile.ZipInfo(f"folder/.{number}"), b"")


def members_in_members(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for number in range(400):
            archive.writestr(zipfile.ZipInfo(f"{number}.csv"), b"")
    write_zip(path, {f"{number}.zip": inner.getvalue() for number in range(3)})


def a_list_of_members(path: Path) -> None:
    """Write a .zip whose list of 50,000 members has more than 4 MiB."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(50_000):
            archive.writestr(zipfile.ZipInfo(f"{'x' * 50}{number}"), b"")


ARCHIVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "header.tgz": (lambda path: header(path, 5 * 2**20), "more than 4194304 bytes"),
    "hidden.tar": (hidden_members, "more than 1000 files"),
    "hidden.zip": (hidden_members_of_zip, "more than 1000 files"),
    "nested.zip": (members_in_members, "more than 1000 files"),
    "list.zip": (a_list_of_members, "more than 4194304 bytes"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_with_too_many_members_or_too_large_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write, words = ARCHIVES[name]
    monkeypatch.setattr(f"{__name__}.LIMIT", 2**23)
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 1_000)
    write(tmp_path / name)
    assert words in error_of(tmp_path, tmp_path / name)


def test_names_of_members_that_are_no_text(tmp_path: Path) -> None:
    content = CSV_HEAD.encode()
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        info = tarfile.TarInfo("caf\xe9.csv")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    assert prepared([tmp_path / "t.tar"], tmp_path / "data", Selection()).info.rows == 2
    with tarfile.open(tmp_path / "bad.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("caf\xe9.csv"))
    with pytest.raises(DatasetError, match=r"caf\?.csv cannot be read as CSV"):
        prepared([tmp_path / "bad.tar"], tmp_path / "data2", Selection())


def test_a_damaged_zip_of_each_method(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "t.zip", "w", method) as archive:
            archive.writestr("t.csv", CSV_HEAD + "5,6,x\n" * 500)
        content = bytearray((tmp_path / "t.zip").read_bytes())
        content[45:75] = bytes(byte ^ 0x5A for byte in content[45:75])
        (tmp_path / "t.zip").write_bytes(content)
        assert "t.zip cannot be unpacked" in error_of(tmp_path, tmp_path / "t.zip")


def npy(header: bytes, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + content


def described(shape: str) -> bytes:
    return f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()


HEADERS: dict[str, tuple[bytes, str]] = {
    "signs": (npy(b"-" * 9000), "nested too deeply"),
    "brackets": (npy(b"(" * 9000), "cannot be read as a NumPy array"),
    "a boolean length": (npy(described("(True, 4)"), bytes(32)), "the shape (True, 4)"),
    "a negative length": (npy(described("(-1, 4)"), bytes(32)), "the shape (-1, 4)"),
    "no data": (npy(described("(4611686018427387904, 4)"), bytes(32)), "is cut short"),
    "no width": (npy(described("(4, 0)")), "rows without numbers"),
    "text of no length": (npy(described("(4,)").replace(b"<f8", b"<U0")), "rows without numbers"),
    "a shape that is no shape": (npy(described("4"), bytes(32)), "cannot be read as a NumPy array"),
    "too many axes": (npy(described(f"(4,{'1,' * 64})"), bytes(32)), "has 65 axes; at most 64"),
    "another version": (b"\x93NUMPY\x09\0" + bytes(200), "cannot be read as a NumPy array"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_bad_headers_of_arrays(tmp_path: Path, case: str) -> None:
    content, words = HEADERS[case]
    np.save(tmp_path / "label.npy", [0, 1, 0, 1])
    (tmp_path / "x.npy").write_bytes(content)
    message = error_of(tmp_path, tmp_path / "x.npy", tmp_path / "label.npy")
    assert "x.npy" in message
    assert words in message


def test_a_long_text_that_many_rows_have_is_in_memory_once(tmp_path: Path) -> None:
    """8,192 rows share one text of a mebibyte."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(8192, np.int32)), pa.array(["x" * 2**20]))
    table = pa.table({"a": np.zeros(8192), "label": text})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd", store_schema=False)
    pa.feather.write_feather(table, tmp_path / "t.feather", compression="zstd")
    for name in ("t.parquet", "t.feather"):
        assert (tmp_path / name).stat().st_size < 5000
        before = pa.total_allocated_bytes()
        peak = pa.default_memory_pool().max_memory()
        message = error_of(tmp_path, tmp_path / name)
        assert "'label' in row 1 has a label of 1048576 characters" in message
        assert pa.default_memory_pool().max_memory() - max(peak, before) < 100 * 2**20


def bomb_in_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.compress(bytes(2**25))))


@pytest.mark.parametrize("write", [bomb_of_gzip, bomb_of_zip, bomb_of_tar, bomb_in_bomb], ids=lambda one: one.__name__)
def test_decompression_bombs_are_rejected(tmp_path: Path, write: Callable[[Path], None]) -> None:
    source = tmp_path / ("bomb.npz" if write is bomb_of_zip else "bomb.gz")
    write(source)
    assert source.stat().st_size < 2**18
    assert f"more than {LIMIT} bytes" in error_of(tmp_path, source)


def test_a_table_above_the_limit_is_rejected(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(np.zeros(2**22)), "label": pa.array(np.arange(2**22) % 2)})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 2**19
    assert f"more than {LIMIT} bytes" in error_of(tmp_path, tmp_path / "t.parquet")


def test_deeply_nested_archives_are_rejected(tmp_path: Path) -> None:
    content = b"x"
    for _ in range(5):
        content = gzip.compress(content)
    (tmp_path / "deep.gz").write_bytes(content)
    assert "archive in an archive" in error_of(tmp_path, tmp_path / "deep.gz")


def test_archives_with_links_and_paths(tmp_path: Path) -> None:
    """Folders are removed from the names of members, and links are skipped."""
    (tmp_path / "data").mkdir()
    secret = tmp_path / "secret.csv"
    secret.write_text(CSV_HEAD)
    with tarfile.open(tmp_path / "out.tar", "w") as archive:
        for name, kind in (("a.csv", tarfile.SYMTYPE), ("b.csv", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        info = tarfile.TarInfo("../../../escaped.txt")
        archive.addfile(info, io.BytesIO(b""))
    assert "escaped.txt" in error_of(tmp_path, tmp_path / "out.tar")
    write_zip(tmp_path / "twice.zip", {"x/t.csv": b"", "y/t.csv": b""})
    assert "several files called 't.csv'" in error_of(tmp_path, tmp_path / "twice.zip")
    assert not list(tmp_path.parent.rglob("escaped.txt"))


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.csv.gz", "t.npz", "t.tar.gz"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damaged_files_are_rejected(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    """A truncated file, or one with changed bytes, is rejected or read as valid. It never crashes."""
    folder = tmp_path_factory.mktemp("damaged")
    source = folder / name
    if name == "t.parquet":
        GOOD.to_parquet(source)
    elif name == "t.feather":
        GOOD.to_feather(source)
    elif name == "t.csv.gz":
        GOOD.to_csv(source, index=False)
    elif name == "t.npz":
        np.savez_compressed(source, a=GOOD["a"].to_numpy(), label=np.arange(100) % 3)
    else:
        with tarfile.open(source, "w:gz") as archive:
            GOOD.to_csv(folder / "t.csv", index=False)
            archive.add(folder / "t.csv", "t.csv")
    content = bytearray(source.read_bytes())
    # The length of an archive varies, because it contains the time.
    places = st.floats(0, 1, exclude_max=True).map(lambda part: int(part * len(content)))
    if data.draw(st.booleans()):
        del content[data.draw(places) :]
    else:
        for position in data.draw(st.lists(places, min_size=1, max_size=8)):
            content[position] = data.draw(st.integers(0, 255))
    source.write_bytes(content)
    directory = folder / "data"
    try:
        prepared([source], directory, Selection(), max_bytes=LIMIT)
    except DatasetError:
        assert list(directory.iterdir()) == []
    else:
        assert [path.suffix for path in directory.iterdir()] == [".arrow"]


def test_a_full_disk_is_not_reported_as_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GOOD.to_csv(tmp_path / "t.csv.gz")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        prepared([tmp_path / "t.csv.gz"], tmp_path / "data", Selection())
    assert list((tmp_path / "data").iterdir()) == []
