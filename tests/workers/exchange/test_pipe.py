from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workers.exchange.pipe import PipeOffer, ReceivingPipe, SendingPipe

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other processes can open a pipe only on Linux")

ROOT = Path(__file__).parents[3]
LENGTH = 51

# Writes numbered messages, which begin with a letter, to the pipe named on the command line.
WRITER = f"""
import sys
from workers.exchange.pipe import PipeOffer, SendingPipe
process, descriptor, name, letter, count = sys.argv[1:]
sender = SendingPipe.open(PipeOffer(int(process), int(descriptor), name))
for number in range(int(count)):
    sender.send(f"{{letter}}{{number}}".ljust({LENGTH}).encode())
"""

# Creates a pipe and waits.
LISTENER = f"""
import sys
from workers.exchange.pipe import ReceivingPipe
pipe = ReceivingPipe({LENGTH})
print(pipe.offer.process, pipe.offer.descriptor, pipe.offer.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pipe() -> Iterator[ReceivingPipe]:
    pipe = ReceivingPipe(LENGTH)
    yield pipe
    pipe.close()


def opened(offer: PipeOffer) -> SendingPipe:
    sender = SendingPipe.open(offer)
    assert sender is not None
    return sender


def test_messages_of_other_processes_arrive_whole_and_in_order(pipe: ReceivingPipe) -> None:
    count, letters = 2000, "ab"  # more than the pipe holds at once
    offer = [str(pipe.offer.process), str(pipe.offer.descriptor), pipe.offer.name]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, *offer, letter, str(count)], cwd=ROOT) for letter in letters
    ]
    received = [pipe.receive().decode().rstrip() for _ in range(count * len(letters))]
    for writer in writers:
        assert writer.wait() == 0
    for letter in letters:
        assert [message for message in received if message[0] == letter] == [f"{letter}{n}" for n in range(count)]


def test_sending_to_a_worker_that_was_killed_does_nothing() -> None:
    command = [sys.executable, "-c", LISTENER]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        process, descriptor, name = listener.stdout.readline().split()
        offer = PipeOffer(int(process), int(descriptor), name)
        sender = opened(offer)
        sender.send(bytes(LENGTH))
        listener.send_signal(signal.SIGKILL)
    sender.send(bytes(LENGTH))
    sender.close()
    assert SendingPipe.open(offer) is None


def test_a_message_sent_before_closing_is_received(pipe: ReceivingPipe) -> None:
    sender = opened(pipe.offer)
    sender.send(b"x" * LENGTH)
    sender.close()
    assert pipe.receive() == b"x" * LENGTH


def test_only_the_offered_pipe_is_opened(pipe: ReceivingPipe) -> None:
    assert SendingPipe.open(replace(pipe.offer, name="pipe:[1]")) is None
    assert SendingPipe.open(replace(pipe.offer, descriptor=pipe.offer.descriptor + 1000)) is None
    assert SendingPipe.open(replace(pipe.offer, process=int(Path("/proc/sys/kernel/pid_max").read_text()) + 1)) is None


def test_closing_a_pipe_closes_its_descriptors() -> None:
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    pipe = ReceivingPipe(LENGTH)
    opened(pipe.offer).close()
    pipe.close()
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
