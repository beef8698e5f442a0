"""The program of a training step: its memory is estimated before a job runs, and workers bind it to their buffers."""

import numpy as np
import numpy.typing as npt

from core import Graph, Program


def training_program(graph: Graph, rows: int, dtype: npt.DTypeLike = np.float32) -> Program:
    """Compile forward and backward of a classifier with its loss for a batch of `rows`."""
    return Program.compile(graph, ("loss", "scores"), batch=rows, dtype=dtype, wrt=("scores",))
