import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import Purpose, RandomCrop, RandomFlip, RandomShift, generator, registered
from core.augmentations.base import NUMBERS, row_numbers

EXAMPLES = [RandomFlip(), RandomCrop(padding=2), RandomShift(pixels=3)]
each_augmentation = pytest.mark.parametrize("augmentation", EXAMPLES, ids=str)
seeds, counts = st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1)


def images(rows=40, shape=(4, 5, 3), dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 256, (rows, *shape)).astype(dtype)


def numbers(rows=40):
    return row_numbers(3, epoch=1, step=2, stream=0, rows=range(rows))


def test_examples_cover_every_augmentation():
    assert {type(each) for each in EXAMPLES} == set(registered("augmentation").values())


@each_augmentation
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_each_image_depends_only_on_its_own_random_numbers(augmentation, dtype):
    given, drawn = images(dtype=dtype), numbers()
    changed = augmentation.apply(given.copy(), drawn)
    assert changed.dtype == dtype
    assert changed.shape == given.shape
    assert not np.array_equal(changed, given)
    for row in range(len(given)):
        alone = augmentation.apply(given[row : row + 1].copy(), drawn[row : row + 1])
        np.testing.assert_array_equal(alone[0], changed[row])


def test_flip_frequency_matches_its_probability():
    given, drawn = images(2000), numbers(2000)
    changed = RandomFlip(probability=0.3).apply(given.copy(), drawn)
    mirrored = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(changed, given, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(changed, given, strict=True)])
    assert (mirrored ^ same).all()
    assert 0.25 < mirrored.mean() < 0.35


def moved(image, down, right, *, repeat):
    """Return the image with pixel (y + down, x + right) of the input at (y, x), computed with a loop."""
    result = np.zeros_like(image)
    height, width, _ = image.shape
    for y in range(height):
        for x in range(width):
            v, u = y + down, x + right
            if repeat:
                v, u = min(max(v, 0), height - 1), min(max(u, 0), width - 1)
            if 0 <= v < height and 0 <= u < width:
                result[y, x] = image[v, u]
    return result


@pytest.mark.parametrize("augmentation", EXAMPLES[1:], ids=str)
def test_translations_are_uniformly_distributed(augmentation):
    margin = augmentation.margin
    given, drawn = images(1500), numbers(1500)
    changed = augmentation.apply(given.copy(), drawn)
    distances = range(-margin, margin + 1)
    found = np.zeros((len(distances), len(distances)), int)
    for image, result in zip(given, changed, strict=True):
        places = [
            (down, right)
            for down in distances
            for right in distances
            if np.array_equal(result, moved(image, down, right, repeat=augmentation.type == "shift"))
        ]
        assert len(places) == 1
        ((down, right),) = places
        found[down + margin, right + margin] += 1
    expected = len(given) / found.size
    assert found.min() > 0.3 * expected
    assert found.max() < 2 * expected


@given(seeds, counts, counts, st.integers(0, 15), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_numbers_do_not_depend_on_how_a_batch_is_divided(seed, epoch, step, stream, start, size, after):
    whole = row_numbers(seed, epoch=epoch, step=step, stream=stream, rows=range(start + size + after))
    part = row_numbers(seed, epoch=epoch, step=step, stream=stream, rows=range(start, start + size))
    np.testing.assert_array_equal(part, whole[start : start + size])
    assert ((whole >= 0) & (whole < 1)).all()


def test_numbers_come_from_the_generator_and_depend_on_every_key():
    key = {"seed": 3, "epoch": 1, "step": 2, "stream": 5}
    expected = generator(3, Purpose.AUGMENTATION, epoch=1, step=2, stream=5).random((6, NUMBERS))
    np.testing.assert_array_equal(row_numbers(**key, rows=range(6)), expected)
    for name in key:
        other = row_numbers(**key | {name: 7}, rows=range(6))
        assert not (other == expected).any()


def test_random_stream_is_unchanged():
    """If these values change, the results of earlier jobs cannot be reproduced."""
    assert Purpose.AUGMENTATION == 7
    drawn = row_numbers(7, epoch=1, step=2, stream=1, rows=range(2, 3))
    assert drawn.tolist() == [[0.8389220331449754, 0.09355698540323698, 0.2972754742839634, 0.6502346306345878]]
