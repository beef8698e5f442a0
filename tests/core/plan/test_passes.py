import pytest

import core.plan.passes
from core import Conv2d, Flatten, Linear, Program, SoftmaxCrossEntropy, build_classifier, entry_from_spec, with_loss
from core.plan.passes import MOST_BYTES, MOST_ROWS, rows_per_pass

LENET = [
    {"type": "conv2d", "filters": 20, "kernel": 5},
    {"type": "max_pool2d", "kernel": 2},
    {"type": "conv2d", "filters": 50, "kernel": 5},
    {"type": "max_pool2d", "kernel": 2},
    {"type": "flatten"},
    {"type": "linear", "units": 500},
    {"type": "relu"},
    {"type": "linear", "units": 10},
]


def lenet():
    return build_classifier([entry_from_spec(layer) for layer in LENET], (28, 28, 1))


@pytest.mark.parametrize(
    ("features", "units", "rows"),
    [
        (64, 10, 1024),
        (784, 4096, 1024),
        # 16,384 numbers in a row are 64 MiB in 1,024 rows.
        (64, 16_000, 1024),
        (64, 16_384, 512),
        (64, 32_000, 512),
        (64, 32_768, 256),
        (1024 * 16_384, 10, 1),
    ],
)
def test_the_values_of_a_pass_take_at_most_64_mebibytes(features, units, rows):
    assert rows_per_pass(build_classifier([Linear(units=units), Linear(units=10)], features)) == rows


def test_the_rows_of_a_network_of_images():
    graph = lenet()
    rows = rows_per_pass(graph)
    assert rows_per_pass(with_loss(lenet(), SoftmaxCrossEntropy())) == rows
    taken, twice = (Program.compile(graph, ("scores",), batch=n, backward=False).nbytes for n in (rows, 2 * rows))
    assert taken <= MOST_BYTES < twice


def test_a_network_is_compiled_few_times(monkeypatch):
    compiled = []

    class Counting(Program):
        @classmethod
        def compile(cls, *arguments, **options):
            compiled.append(options["batch"])
            return super().compile(*arguments, **options)

    monkeypatch.setattr(core.plan.passes, "Program", Counting)
    assert rows_per_pass(build_classifier([Linear(units=10)], 64)) == MOST_ROWS
    assert compiled == [MOST_ROWS]
    rows_per_pass(lenet())
    assert len(compiled) <= 6


def test_one_row_at_a_time_where_a_row_takes_more():
    layers = [Conv2d(filters=64, kernel=3, padding="same"), Flatten(), Linear(units=2)]
    assert rows_per_pass(build_classifier(layers, (1024, 1024, 1))) == 1
