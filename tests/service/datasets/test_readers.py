"""Files of every format, written by independent libraries."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import struct
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.datasets.preparation.preparation import Selection
from tests.fixtures.prepared import prepared
from workers.data.dataset import DatasetError, open_dataset, open_splits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from service.datasets.preparation.preparation import Prepared

    Array = np.ndarray[Any, Any]

ROWS, HEIGHT, WIDTH = 50, 4, 3
RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.integers(0, 256, size=(ROWS, HEIGHT, WIDTH), dtype=np.uint8)
LABELS = np.arange(ROWS, dtype=np.uint8) % 5


def prepare_files(tmp_path: Path, *files: Path, **selection: Any) -> Prepared:
    return prepared(files, tmp_path / "data", Selection(**selection))


def check(found: Prepared, features: Array, labels: Array) -> None:
    mapped, numbers = open_dataset(found.info)
    assert mapped.dtype == features.dtype
    np.testing.assert_array_equal(mapped, features)
    assert [found.info.classes[number] for number in numbers] == [str(label) for label in labels]


def idx(path: Path, array: Array, kind: int) -> Path:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    content = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def pixel_rows() -> list[dict[str, int]]:
    flat = IMAGES.reshape(ROWS, -1).tolist()
    return [
        {f"pixel_{index}": value for index, value in enumerate(row)} | {"label": label}
        for row, label in zip(flat, LABELS.tolist(), strict=True)
    ]


# The same table in different formats.
def write_csv(folder: Path) -> Path:
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, pixel_rows()[0])
        writer.writeheader()
        writer.writerows(pixel_rows())
    return folder / "table.csv"


def write_tsv_gz(folder: Path) -> Path:
    pd.DataFrame(pixel_rows()).to_csv(folder / "table.tsv.gz", sep="\t", index=False)
    return folder / "table.tsv.gz"


def write_parquet(folder: Path) -> Path:
    pd.DataFrame(pixel_rows()).to_parquet(folder / "table.parquet")
    return folder / "table.parquet"


def write_folder(folder: Path) -> Path:
    (folder / "year=1").mkdir()
    for number, part in enumerate(np.array_split(np.arange(ROWS), 3)):
        frame = pd.DataFrame([pixel_rows()[row] for row in part])
        frame.to_parquet(folder / "year=1" / f"part-{number}.parquet", row_group_size=7)
    return folder / "year=1"


def write_lists(folder: Path) -> Path:
    frame = pd.DataFrame({"pixels": list(IMAGES.reshape(ROWS, -1).astype(np.int16)), "label": LABELS})
    frame.to_parquet(folder / "lists.parquet")
    return folder / "lists.parquet"


def write_feather(folder: Path) -> Path:
    pd.DataFrame(pixel_rows()).astype(np.int32).to_feather(folder / "table.feather")
    return folder / "table.feather"


def write_stream(folder: Path) -> Path:
    table = pa.Table.from_pylist(pixel_rows())
    with pa.ipc.new_stream(folder / "table.arrows", table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return folder / "table.arrows"


def write_npz(folder: Path) -> Path:
    flat = np.asfortranarray(IMAGES.reshape(ROWS, -1).astype(np.int64))
    np.savez_compressed(folder / "arrays.npz", pixels=flat, label=LABELS)
    return folder / "arrays.npz"


WRITERS = [write_csv, write_tsv_gz, write_parquet, write_folder, write_lists, write_feather, write_stream, write_npz]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_the_dataset_does_not_depend_on_the_file_format(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    source = write(tmp_path)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    found = prepare_files(tmp_path, *files)
    check(found, IMAGES.reshape(ROWS, -1), LABELS)
    head = f"{(ROWS, HEIGHT * WIDTH)!r}{('uint8', None, 0)!r}".encode()
    content = (
        head + IMAGES.tobytes() + LABELS.astype("<i8").tobytes() + b"\0".join(b"01234"[n : n + 1] for n in range(5))
    )
    assert found.info.digest == hashlib.sha256(content).hexdigest()


def test_mnist_in_its_published_format(tmp_path: Path) -> None:
    images = idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES, 0x08)
    labels = idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS, 0x08)
    found = prepare_files(tmp_path, images, labels)
    check(found, IMAGES.reshape(ROWS, -1), LABELS)
    assert (found.format, found.info.shape) == ("idx", (HEIGHT, WIDTH, 1))
    # An archive that also has the test files. They are read only with a split column.
    tests = idx(tmp_path / "t10k-images-idx3-ubyte.gz", IMAGES[:5] ^ 1, 0x08)
    with tarfile.open(tmp_path / "mnist.tar", "w") as archive:
        for path in (images, labels, tests, idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[5:10], 0x08)):
            archive.add(path, f"MNIST/raw/{path.name}")
    assert prepare_files(tmp_path, tmp_path / "mnist.tar").info == found.info
    both = prepare_files(tmp_path, tmp_path / "mnist.tar", split="split").info
    assert (both.splits, both.shape) == ({"test": 5, "train": ROWS}, (HEIGHT, WIDTH, 1))
    assert open_splits(both).tolist() == [1] * ROWS + [0] * 5
    features, numbers = open_dataset(both)
    np.testing.assert_array_equal(features.reshape(-1, HEIGHT, WIDTH), [*IMAGES, *(IMAGES[:5] ^ 1)])
    assert numbers.tolist() == [*LABELS, *LABELS[5:10]]


@pytest.mark.parametrize(("kind", "dtype"), [(0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")])
def test_all_idx_types(tmp_path: Path, kind: int, dtype: str) -> None:
    values = RANDOM.normal(size=(6, 4)) * 50
    images = idx(tmp_path / "x.idx", values.astype(dtype), kind)
    found = prepare_files(tmp_path, images, idx(tmp_path / "y.idx", np.arange(6, dtype=np.uint8), 0x08))
    check(found, values.astype(dtype).astype(np.float32), np.arange(6))
    assert found.info.shape is None


@pytest.mark.parametrize(
    ("label_bytes", "name", "other"), [(1, "data_batch_{}.bin", "test_batch.bin"), (2, "train.bin", "test.bin")]
)
def test_cifar(tmp_path: Path, label_bytes: int, name: str, other: str) -> None:
    rows = 6
    images = RANDOM.integers(0, 256, size=(rows, 32, 32, 3), dtype=np.uint8)
    records = []
    for number, image in enumerate(images):
        planes = b"".join(image[:, :, channel].tobytes() for channel in range(3))
        records.append(bytes([99] * (label_bytes - 1) + [number % 3]) + planes)
    with tarfile.open(tmp_path / "cifar-binary.tar.gz", "w:gz") as archive:
        parts = [records[:4], records[4:]] if "{}" in name else [records]
        for part, content in [*enumerate(parts, 1), (0, [bytes(len(records[0]))])]:
            info = tarfile.TarInfo(f"cifar/{name.format(part) if part else other}")
            info.size = len(b"".join(content))
            archive.addfile(info, io.BytesIO(b"".join(content)))
    found = prepare_files(tmp_path, tmp_path / "cifar-binary.tar.gz")
    check(found, images.reshape(rows, -1), np.arange(rows) % 3)
    assert found.info.shape == (32, 32, 3)
    both = prepare_files(tmp_path, tmp_path / "cifar-binary.tar.gz", split="split").info
    assert (both.splits, open_splits(both).tolist()) == ({"test": 1, "train": rows}, [1] * rows + [0])
    np.testing.assert_array_equal(open_dataset(both)[0], [*images.reshape(rows, -1), np.zeros(3072)])


CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar_archive(path: Path, format_files: dict[str, str | bytes], record: bytes = bytes(3073)) -> Path:
    """An archive with two images, of the classes 0 and 2, and text files."""
    pictures = record + record[:-3073] + b"\2" + record[-3072:]
    name = "data_batch_1.bin" if len(record) == 3073 else "train.bin"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in {name: pictures, **format_files}.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(f"cifar/{member}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_class_names_of_cifar(tmp_path: Path) -> None:
    """The published archives have one name in each line and an empty line at the end."""
    path = tmp_path / "cifar.tar.gz"
    found = prepare_files(tmp_path, cifar_archive(path, {"batches.meta.txt": "\n".join(CIFAR_NAMES) + "\n\n"}))
    assert found.info.classes == tuple(CIFAR_NAMES)
    assert found.profile["class_counts"] == [1, 0, 1, *[0] * 7]
    assert prepare_files(tmp_path, path, classes=["a", "b", "c"]).info.classes == ("a", "b", "c")
    assert prepare_files(tmp_path, cifar_archive(path, {})).info.classes == ("0", "2")
    fine, coarse = [f"fine {n}" for n in range(100)], [f"coarse {n}" for n in range(20)]
    files: dict[str, str | bytes] = {
        "fine_label_names.txt": "\n".join(fine),
        "coarse_label_names.txt": "\r\n".join(coarse) + "\r\n",
    }
    cifar_archive(path, files, bytes([7]) + bytes(3073))
    assert prepare_files(tmp_path, path).info.classes == tuple(fine)
    assert prepare_files(tmp_path, path, label="coarse_label").info.classes == tuple(coarse)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\n".join(CIFAR_NAMES[:9]), "batches.meta.txt has 9 lines and 9 different names; it must name 10 classes"),
        ("\n".join([*CIFAR_NAMES, "more"]), "batches.meta.txt has 11 lines"),
        ("", "batches.meta.txt has 0 lines"),
        ("\n".join(["cat", *CIFAR_NAMES[1:]]), "batches.meta.txt has 10 lines and 9 different names"),
        (b"\xff\xfe" + bytes(100), "batches.meta.txt is not a text"),
        ("x" * 10_000_000, "batches.meta.txt has 1 lines"),
    ],
    ids=["nine", "eleven", "none", "duplicate", "not text", "long"],
)
def test_invalid_class_names(tmp_path: Path, content: str | bytes, words: str) -> None:
    archive = cifar_archive(tmp_path / "cifar.tar.gz", {"batches.meta.txt": content})
    with pytest.raises(DatasetError, match=re.escape(words)):
        prepare_files(tmp_path, archive)
    assert list((tmp_path / "data").iterdir()) == []
    assert prepare_files(tmp_path, archive, classes=CIFAR_NAMES).info.classes == tuple(CIFAR_NAMES)


def test_an_array_and_its_labels_in_two_files(tmp_path: Path) -> None:
    values = RANDOM.normal(size=(7, 2, 3, 2))
    np.save(tmp_path / "x.npy", values)
    names = np.array(["b", "a", "c", "ä", "b", "a", "c"])
    np.save(tmp_path / "y.npy", names)
    found = prepare_files(tmp_path, tmp_path / "x.npy", tmp_path / "y.npy", label="y")
    check(found, values.astype(np.float32).reshape(7, -1), names)
    assert (found.info.shape, found.info.classes) == ((2, 3, 2), ("a", "b", "c", "ä"))
    (column,) = found.profile["columns"]
    expected = {"name": "x", "type": "double[2, 3, 2]", "kind": "number", "width": 12, "exact": False}
    assert column.items() >= expected.items()


def test_some_arrays_of_an_npz_file(tmp_path: Path) -> None:
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:3], "y_test": LABELS[:3]}
    np.savez(tmp_path / "mnist.npz", **arrays)
    found = prepare_files(tmp_path, tmp_path / "mnist.npz", features=["x_train"], label="y_train")
    check(found, IMAGES.reshape(ROWS, -1), LABELS)
    assert found.info.shape == (HEIGHT, WIDTH, 1)


def test_arrow_tensors_in_parquet(tmp_path: Path) -> None:
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES), "label": LABELS})
    pq.write_table(table, tmp_path / "tensors.parquet")
    found = prepare_files(tmp_path, tmp_path / "tensors.parquet")
    check(found, IMAGES.reshape(ROWS, -1), LABELS)
    assert found.info.shape == (HEIGHT, WIDTH, 1)
    assert found.profile["columns"][0]["type"] == "uint8[4, 3]"


def test_a_shape_may_be_given(tmp_path: Path) -> None:
    found = prepare_files(tmp_path, write_csv(tmp_path), shape=[2, 2, 3])
    assert found.info.shape == (2, 2, 3)
    check(found, IMAGES.reshape(ROWS, -1), LABELS)


def test_columns_by_name_and_by_pattern(tmp_path: Path) -> None:
    frame = pd.DataFrame({"b_1": [1.5, 2], "a": [3, 4], "label": ["x", "y"], "b_0": [5, 6], "c[0]": [7, 8]})
    frame.to_parquet(tmp_path / "table.parquet")
    for patterns, expected in (
        (["a", "b_*"], [[3, 1.5, 5], [4, 2, 6]]),
        (["*"], [[1.5, 3, 5, 7], [2, 4, 6, 8]]),
        (["c[0]", "[ab]*", "a"], [[7, 1.5, 3, 5], [8, 2, 4, 6]]),
    ):
        found = prepare_files(tmp_path, tmp_path / "table.parquet", features=patterns)
        np.testing.assert_array_equal(open_dataset(found.info)[0], expected)


def test_targets_instead_of_a_label(tmp_path: Path) -> None:
    frame = pd.DataFrame({"rooms": [1, 2, 3], "price": [1.5, 2.5, 7], "tax": [10, 20, 300], "label": ["a", "b", "c"]})
    frame.to_csv(tmp_path / "houses.csv", index=False)
    found = prepare_files(tmp_path, tmp_path / "houses.csv", features=["rooms"], targets=["price", "tax"], label=None)
    features, targets = open_dataset(found.info)
    assert (features.dtype, features.tolist()) == (np.uint8, [[1], [2], [3]])
    np.testing.assert_array_equal(targets, np.array([[1.5, 10], [2.5, 20], [7, 300]], np.float32))
    assert (found.info.targets, found.info.classes) == (2, ())


def test_integer_labels_are_sorted_as_numbers_and_text_as_text(tmp_path: Path) -> None:
    labels = ["10", "9", "-1", "9"]
    pd.DataFrame({"a": [1, 2, 3, 4], "label": labels}).to_csv(tmp_path / "t.csv", index=False)
    assert prepare_files(tmp_path, tmp_path / "t.csv").info.classes == ("-1", "9", "10")
    pd.DataFrame({"a": [1, 2, 3, 4], "label": labels}).to_parquet(tmp_path / "t.parquet")
    assert prepare_files(tmp_path, tmp_path / "t.parquet").info.classes == ("-1", "10", "9")
    pd.DataFrame({"a": [1, 2, 3, 4], "label": ["007", *labels[1:]]}).to_csv(tmp_path / "t.csv", index=False)
    assert prepare_files(tmp_path, tmp_path / "t.csv").info.classes == ("-1", "007", "9")


def test_classes_may_be_given(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1, 2, 3], "label": [2, 0, 2]}).to_parquet(tmp_path / "numbers.parquet")
    pd.DataFrame({"a": [1, 2, 3], "label": ["dog", "cat", "dog"]}).to_parquet(tmp_path / "names.parquet")
    given = ["cat", "cow", "dog"]
    found = [prepare_files(tmp_path, tmp_path / f"{name}.parquet", classes=given) for name in ("numbers", "names")]
    assert found[0].info == found[1].info
    assert open_dataset(found[0].info)[1].tolist() == [2, 0, 2]
    assert found[0].profile["class_counts"] == [1, 0, 2]


def test_pandas_categories_are_labels(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "label": pd.Categorical(["x", "y", "x"], categories=["y", "x", "z"])})
    frame.to_parquet(tmp_path / "t.parquet")
    assert prepare_files(tmp_path, tmp_path / "t.parquet").info.classes == ("x", "y")


NUMBERS = st.one_of(
    st.integers(0, 255), st.integers(-(2**24), 2**24), st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=st.integers(2, 40), width=st.integers(1, 4))
def test_any_table_of_numbers_is_read_from_csv(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: int, width: int
) -> None:
    """Numbers from 0 to 255 are stored as uint8, others as float32, with the bits of NumPy's conversion."""
    folder = tmp_path_factory.mktemp("any")
    kind = data.draw(st.sampled_from([NUMBERS, st.integers(0, 255), st.integers(0, 256)]))
    table = data.draw(st.lists(st.lists(kind, min_size=width, max_size=width), min_size=rows, max_size=rows))
    labels = ["ab"[index % 2] for index in range(rows)]
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{index}" for index in range(width)), "label"])
        writer.writerows([*map(repr, row), label] for row, label in zip(table, labels, strict=True))
    values = np.array(table, np.float64)
    integers = np.array_equal(values, np.rint(values)) and not (np.signbit(values) & (values == 0)).any()
    bytes_only = integers and values.min() >= 0 and values.max() <= 255
    features, _ = open_dataset(prepare_files(folder, folder / "t.csv").info)
    assert features.dtype == (np.uint8 if bytes_only else np.float32)
    assert features.tobytes() == values.astype(features.dtype).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    array=arrays(
        st.sampled_from(["u1", "i1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "?"]),
        array_shapes(min_dims=1, max_dims=4, min_side=2, max_side=5),
        elements=st.integers(0, 1),
    ),
    order=st.sampled_from("CF"),
)
def test_any_numpy_array_is_read(tmp_path_factory: pytest.TempPathFactory, array: Array, order: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    np.savez(folder / "a.npz", x=np.array(array, order=order), y=np.arange(len(array)))
    features, _ = open_dataset(prepare_files(folder, folder / "a.npz", label="y").info)
    np.testing.assert_array_equal(features, array.reshape(len(array), -1).astype(np.float32))


def test_the_format_can_be_given(tmp_path: Path) -> None:
    source = write_csv(tmp_path).rename(tmp_path / "table.txt")
    check(prepare_files(tmp_path, source, format="csv"), IMAGES.reshape(ROWS, -1), LABELS)


def test_rows_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value is above 255, but only in a late chunk."""
    monkeypatch.setattr("service.datasets.readers.reader.CHUNK_ROWS", 7)
    monkeypatch.setattr("service.datasets.readers.csv.CHUNK_BYTES", 300)
    values = np.arange(ROWS * 3).reshape(ROWS, 3)
    values[40, 1] = 256
    frame = pd.DataFrame(values, columns=list("abc")).assign(label=LABELS)
    paths = [tmp_path / name for name in ("t.csv", "t.parquet", "t.feather")]
    frame.to_csv(paths[0], index=False)
    frame.to_parquet(paths[1])
    frame.to_feather(paths[2])
    for path in paths:
        check(prepare_files(tmp_path, path), values.astype(np.float32), LABELS)


def _zipped(folder: Path, files: Sequence[Path]) -> Path:
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"deep/{file.name}")
        archive.writestr("__MACOSX/._junk", "junk")
    return folder / "all.zip"


def test_a_zip_of_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    check(prepare_files(tmp_path, _zipped(tmp_path, sorted(folder.iterdir()))), IMAGES.reshape(ROWS, -1), LABELS)
