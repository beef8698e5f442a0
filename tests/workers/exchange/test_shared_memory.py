from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.arrays import ALIGNMENT
from workers.exchange.pipe import ReceivingPipe
from workers.exchange.shared_memory import NAME, NONCE_BYTES, MemoryOffer, SharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.exchange.shared_memory import Declaration

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared only on Linux")

ROOT = Path(__file__).parents[3]
DECLARED: list[Declaration] = [((3,), np.float32), ((0,), np.float32), ((40, 3), np.float64), ((5000,), np.float32)]

# Creates memory. For each line of input, prints the sums of its arrays, then fills them with the number of the line.
WORKER = f"""
import sys
from workers.exchange.shared_memory import SharedMemory
memory = SharedMemory.create()
print(memory.offer.process, memory.offer.descriptor, memory.offer.nonce.hex(), flush=True)
arrays = None
for line in sys.stdin:
    arrays = arrays or memory.arrays({[(shape, np.dtype(dtype).str) for shape, dtype in DECLARED]})
    print(*(float(array.sum()) for array in arrays), flush=True)
    for array in arrays:
        array[...] = float(line)
    print("written", flush=True)
"""


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    memory = SharedMemory.create()
    assert memory is not None
    yield memory
    memory.close()


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def read_line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def write_line(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(f"{line}\n")
    worker.stdin.flush()


def offer_of(worker: subprocess.Popen[str]) -> MemoryOffer:
    process, descriptor, nonce = read_line(worker).split()
    return MemoryOffer(int(process), int(descriptor), bytes.fromhex(nonce))


def opened(offer: MemoryOffer) -> SharedMemory:
    memory = SharedMemory.open(offer)
    assert memory is not None
    return memory


def test_two_processes_share_the_same_numbers(worker: subprocess.Popen[str]) -> None:
    memory = opened(offer_of(worker))
    # Either process may lay out the arrays first; here it is not the owner of the memory.
    arrays = memory.arrays(DECLARED)
    memory.close()
    assert [(array.shape, array.dtype) for array in arrays] == [(shape, np.dtype(dtype)) for shape, dtype in DECLARED]
    assert not any(array.any() for array in arrays)
    for index, array in enumerate(arrays, start=1):
        array[...] = index
    write_line(worker, "7")
    assert read_line(worker).split() == ["3.0", "0.0", "360.0", "20000.0"]
    assert read_line(worker) == "written"
    assert all((array == 7).all() for array in arrays)


def test_shared_memory_outlives_the_process_that_offered_it(worker: subprocess.Popen[str]) -> None:
    """It has no file that could remain, and it can no longer be opened."""
    offer = offer_of(worker)
    memory = opened(offer)
    write_line(worker, "7")
    assert [read_line(worker), read_line(worker)] == ["0.0 0.0 0.0 0.0", "written"]
    maps = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "/memfd:" in maps
    assert "/dev/shm/" not in maps, "a file there would remain"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    arrays = memory.arrays(DECLARED)
    memory.close()
    assert all((array == 7).all() for array in arrays)
    assert SharedMemory.open(offer) is None


def test_arrays_are_aligned_and_do_not_overlap(memory: SharedMemory) -> None:
    arrays = memory.arrays(DECLARED)
    assert all(array.ctypes.data % ALIGNMENT == 0 for array in arrays if array.size)
    for index, array in enumerate(arrays):
        array[...] = index
    assert all((array == index).all() for index, array in enumerate(arrays))
    # The nonce is unchanged: the first array begins after it.
    opened(memory.offer).close()


def test_memory_with_another_nonce_is_not_opened(memory: SharedMemory) -> None:
    assert SharedMemory.open(replace(memory.offer, nonce=bytes(NONCE_BYTES))) is None


@pytest.mark.parametrize("what", ["a file", "a pipe", "other memory", "nothing", "no process"])
def test_other_descriptors_are_not_opened(memory: SharedMemory, tmp_path: Path, what: str) -> None:
    """An offer from another machine may have the numbers of another process or descriptor on this one."""
    process = os.getpid()
    if what == "a file":
        path = tmp_path / f"memfd:{NAME} "
        path.write_bytes(memory.offer.nonce)
        descriptor = os.open(path, os.O_RDWR)
    elif what == "a pipe":
        descriptor, other = os.pipe()
        os.close(other)
    elif what == "other memory":
        descriptor = os.memfd_create("other")
        os.pwrite(descriptor, memory.offer.nonce, 0)
    else:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    if what == "no process":
        process = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    if what == "nothing":
        os.close(descriptor)
    try:
        assert SharedMemory.open(MemoryOffer(process, descriptor, memory.offer.nonce)) is None
    finally:
        if what != "nothing":
            os.close(descriptor)


def test_opening_leaves_no_descriptor_behind(memory: SharedMemory) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert SharedMemory.open(replace(memory.offer, nonce=bytes(NONCE_BYTES))) is None
    opened(memory.offer).close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_offer_is_plain_data(memory: SharedMemory) -> None:
    assert astuple(memory.offer) == (os.getpid(), memory.offer.descriptor, memory.offer.nonce)
    assert len(memory.offer.nonce) == NONCE_BYTES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another account")
def test_another_account_opens_neither_memory_nor_pipe(memory: SharedMemory) -> None:
    stranger = 65534  # an account without rights
    pipe = ReceivingPipe(1)
    try:
        for descriptor in (memory.offer.descriptor, pipe.offer.descriptor):
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
            tried = {
                account: subprocess.run(
                    ["/bin/sh", "-c", f": <>{path}"],
                    user=account,
                    group=account,
                    extra_groups=[],
                    env={"LC_ALL": "C"},
                    cwd="/",
                    stderr=subprocess.PIPE,
                    text=True,
                    check=False,
                ).stderr
                for account in (0, stranger)
            }
            assert tried[0] == "", "its own account"
            assert "Permission denied" in tried[stranger]
    finally:
        pipe.close()
