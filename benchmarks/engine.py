"""A training step of the engine beside PyTorch's: `python benchmarks/engine.py`.

Forward, backward and SGD with momentum of networks with ReLU and softmax cross-entropy, in float32 on one thread. The
two take turns within each round of one process, so that both meet the same noise.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from statistics import median, quantiles
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from core import (
    SGD,
    Linear,
    ParameterLayout,
    Plan,
    ReLU,
    SoftmaxCrossEntropy,
    aligned_zeros,
    build_classifier,
    initialize,
    with_loss,
)

NETWORKS = [(784, 10), (784, 128, 10), (784, 512, 512, 10)]
BATCH = 128
LR, MOMENTUM = 0.05, 0.9


def batch_of(widths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    features = random.normal(size=(BATCH, widths[0])).astype(np.float32)
    return features, random.integers(0, widths[-1], BATCH)


def gradfleet_step(widths: tuple[int, ...]) -> tuple[Callable[[], None], Callable[[], float], list[np.ndarray]]:
    """Return a step, the mean loss after it, and the initial weights and biases."""
    features, *hidden, classes = widths
    layers = [layer for units in hidden for layer in (Linear(units=units), ReLU())]
    graph = with_loss(build_classifier([*layers, Linear(units=classes)], features), SoftmaxCrossEntropy())
    layout = ParameterLayout(graph.parameters())
    plan = Plan(graph, ("loss",), batch=BATCH, layout=layout, parameters=initialize(layout, seed=0))
    plan.inputs["features"][...], plan.inputs["labels"][...] = batch_of(widths)
    optimizer = SGD(lr=LR, momentum=MOMENTUM)
    state = {name: aligned_zeros((layout.size,), np.float32) for name in optimizer.slots}
    upstream = {"loss": 1 / BATCH}

    def step() -> None:
        plan.forward()
        plan.backward(upstream)
        optimizer.update(np, plan.parameters, plan.gradients, state, LR)

    initial = [view.copy() for view in layout.views(plan.parameters).values()]
    return step, lambda: float(plan.value("loss").mean()), initial


def torch_step(widths: tuple[int, ...], initial: list[np.ndarray]) -> tuple[Callable[[], None], Callable[[], float]]:
    """Return the same step in PyTorch, eager, as its tutorials write it, and the mean loss after it."""
    import torch  # noqa: PLC0415 - the benchmark runs without it

    torch.set_num_threads(1)
    modules: list[torch.nn.Module] = []
    for position, (inputs, outputs) in enumerate(pairwise(widths)):
        linear = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(initial[2 * position].T))
            linear.bias.copy_(torch.from_numpy(initial[2 * position + 1]))
        modules += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    features, labels = map(torch.from_numpy, batch_of(widths))
    last = {}

    def step() -> None:
        optimizer.zero_grad()
        last["loss"] = criterion(model(features), labels)
        last["loss"].backward()
        optimizer.step()

    def loss() -> float:
        return last["loss"].item()

    return step, loss


def seconds(step: Callable[[], None], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        step()
    return (perf_counter() - start) / repeats


def compare(widths: tuple[int, ...], rounds: int, *, with_torch: bool) -> str:
    step, loss, initial = gradfleet_step(widths)
    steps = {"gradfleet": step}
    if with_torch:
        steps["torch"], torch_loss = torch_step(widths, initial)
        for each in steps.values():
            for _ in range(5):
                each()
        if not np.isclose(loss(), torch_loss(), rtol=1e-4):
            raise AssertionError(f"not the same computation: losses {loss()} and {torch_loss()}")
    repeats = max(1, int(0.02 / seconds(step, 5)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, each in steps.items():
            times[name].append(1e6 * seconds(each, repeats))
    row = f"{'-'.join(map(str, widths)):18}{median(times['gradfleet']):12.0f} us"
    if with_torch:
        ratios = [theirs / ours for ours, theirs in zip(times["gradfleet"], times["torch"], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        row += f"{median(times['torch']):12.0f} us{median(ratios):10.2f} x   ({low:.2f} to {high:.2f})"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        print("PyTorch is not installed, so there is nothing to compare with: pip install 'gradfleet[bench]'")
        version = None
    else:
        version = torch.__version__
    print(
        f"A training step at batch {BATCH}, one thread, NumPy {np.__version__}, PyTorch {version}; median of {rounds}."
    )
    print(f"{'network':18}{'gradfleet':>15}{'PyTorch':>15}{'speed-up':>12}   (quartiles)")
    with threadpool_limits(1):
        for widths in NETWORKS:
            print(compare(widths, rounds, with_torch=version is not None), flush=True)


if __name__ == "__main__":
    main()
