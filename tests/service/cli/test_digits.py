"""The mislabelled rows of the demo dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from service.cli.demo.digits import mislabel, write_digits
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
    table = pq.read_table(path).to_pydict()
    assert np.array_equal(np.array(table["pixels"]), load_digits().data)
    assert table["label"] == mislabel(LABELS, 0.05, validation=0.2, seeds=SEEDS).tolist()
