"""The mislabelled rows of the demo dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from service.cli.demo.digits import mislabel, write_digits
from service.datasets.preparation.preparation import Selection
from tests.fixtures.prepared import prepared
from workers.data.splitting import split

if TYPE_CHECKING:
    from pathlib import Path

LABELS = load_digits().target
SEEDS = (0, 1, 2)


def mislabelled_rows(share: float) -> set[int]:
    return set(np.flatnonzero(mislabel(LABELS, share, validation=0.2, seeds=SEEDS) != LABELS).tolist())


def test_only_a_share_of_the_training_rows_is_mislabelled() -> None:
    changed = mislabelled_rows(0.1)
    for seed in SEEDS:
        train, validation = split(len(LABELS), 0.2, seed)
        assert len(changed.intersection(train.tolist())) == round(0.1 * len(train)) == 144
        assert not changed.intersection(validation.tolist())


def test_a_larger_share_includes_the_smaller_ones() -> None:
    assert not mislabelled_rows(0)
    assert mislabelled_rows(0.01) < mislabelled_rows(0.05) < mislabelled_rows(0.1)


def test_every_other_class_occurs_as_a_wrong_label() -> None:
    labels = mislabel(LABELS, 0.5, validation=0.2, seeds=SEEDS)
    changed = labels != LABELS
    assert set((labels - LABELS)[changed] % 10) == set(range(1, 10))


def test_a_share_larger_than_the_training_rows_is_rejected() -> None:
    with pytest.raises(ValueError, match="1007 rows cannot be mislabelled: only 914 are training"):
        mislabel(LABELS, 0.7, validation=0.2, seeds=SEEDS)


def test_content_of_the_file(tmp_path: Path) -> None:
    path = write_digits(tmp_path / "digits.parquet", mislabelled=0.05, validation=0.2, seeds=SEEDS)
    table = pq.read_table(path)
    assert np.array_equal(table["pixels"].combine_chunks().to_numpy_ndarray()[..., 0], load_digits().images)
    assert table["label"].to_pylist() == mislabel(LABELS, 0.05, validation=0.2, seeds=SEEDS).tolist()


@pytest.mark.parametrize("shape", [None, (8, 8), (8, 8, 1)])
def test_the_digits_are_images_whether_or_not_a_registration_says_so(
    tmp_path: Path, shape: tuple[int, ...] | None
) -> None:
    path = write_digits(tmp_path / "digits.parquet", validation=0.2, seeds=SEEDS)
    info = prepared([path], tmp_path / "datasets", Selection(label="label", shape=shape)).info
    assert (info.shape, info.dtype) == ((8, 8, 1), "uint8")
