"""PyTorch's DistributedDataParallel, and its all-reduce over gloo."""

import os
from itertools import cycle
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.common.team import Share
from benchmarks.common.workload import Workload
from benchmarks.distributed.workload import batches, rows
from benchmarks.engine.pytorch import criterion_of, model_of, optimizer_of


def join(rank: int, members: int, share: Share) -> None:
    """Join the process group; every process has one thread."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    leads = rank == 0
    own = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if leads else None
    port, *_ = share(own.port if own else None)
    store = own or dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=members)


class DataParallelStep:
    """A step on tensors that are ready, each process with its part of the batch."""

    def __init__(self, rank: int, members: int, share: Share, workload: Workload, weights: list[np.ndarray]) -> None:
        join(rank, members, share)
        model = model_of(workload, weights)
        # Measured: other bucket sizes (1 to 100 MB) are not faster than the default.
        self._model = DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)
        self._optimizer = optimizer_of(workload, model)
        self._criterion = criterion_of(workload)
        features, labels = rows(workload)
        parts = [np.split(batch, members)[rank] for batch in batches(workload)]
        self._batches = cycle([(torch.from_numpy(features[part]), torch.from_numpy(labels[part])) for part in parts])
        self._steps, self._loss = 0, torch.zeros(())

    def __call__(self) -> None:
        self._steps += 1
        features, labels = next(self._batches)
        self._optimizer.zero_grad(set_to_none=True)
        self._loss = self._criterion(self._model(features), labels)
        self._loss.backward()
        self._optimizer.step()

    def result(self) -> dict[str, Any]:
        loss = self._loss.detach().clone()
        dist.all_reduce(loss)
        return {"steps": self._steps, "loss": loss.item() / dist.get_world_size()}

    def close(self) -> None:
        dist.destroy_process_group()


class AllReduce:
    """gloo's sum of a vector over the processes."""

    def __init__(self, rank: int, members: int, share: Share, floats: int) -> None:
        join(rank, members, share)
        self._mine = float(rank + 1)
        self._vector = torch.zeros(floats)

    def __call__(self) -> None:
        dist.all_reduce(self._vector)

    def result(self) -> float:
        """Return the sum of all values."""
        self._vector.fill_(self._mine)
        dist.all_reduce(self._vector)
        return self._vector.sum(dtype=torch.float64).item()

    def close(self) -> None:
        dist.destroy_process_group()
