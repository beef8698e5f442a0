from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workers.exchange.doorbell import BellOffer, BellRope, Doorbell

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes are opened by others on Linux alone")

ROOT = Path(__file__).parents[3]
LENGTH = 51

# Pulls the rope of the bell that is named on the command line, with numbered messages that begin with a letter.
WRITER = f"""
import sys
from workers.exchange.doorbell import BellOffer, BellRope
process, descriptor, name, letter, count = sys.argv[1:]
rope = BellRope.open(BellOffer(int(process), int(descriptor), name))
for number in range(int(count)):
    rope.pull(f"{{letter}}{{number}}".ljust({LENGTH}).encode())
"""

# Offers a bell and waits.
LISTENER = f"""
import sys
from workers.exchange.doorbell import Doorbell
bell = Doorbell({LENGTH})
print(bell.offer.process, bell.offer.descriptor, bell.offer.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def bell() -> Iterator[Doorbell]:
    bell = Doorbell(LENGTH)
    yield bell
    bell.close()


def opened(offer: BellOffer) -> BellRope:
    rope = BellRope.open(offer)
    assert rope is not None
    return rope


def test_messages_of_other_processes_arrive_whole_and_in_order(bell: Doorbell) -> None:
    count, letters = 2000, "ab"  # more than the pipe holds at once
    offer = [str(bell.offer.process), str(bell.offer.descriptor), bell.offer.name]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, *offer, letter, str(count)], cwd=ROOT) for letter in letters
    ]
    heard = [bell.hear().decode().rstrip() for _ in range(count * len(letters))]
    for writer in writers:
        assert writer.wait() == 0
    for letter in letters:
        assert [message for message in heard if message[0] == letter] == [f"{letter}{n}" for n in range(count)]


def test_the_rope_of_a_worker_that_was_killed_may_be_pulled() -> None:
    command = [sys.executable, "-c", LISTENER]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        process, descriptor, name = listener.stdout.readline().split()
        offer = BellOffer(int(process), int(descriptor), name)
        rope = opened(offer)
        rope.pull(bytes(LENGTH))
        listener.send_signal(signal.SIGKILL)
    rope.pull(bytes(LENGTH))
    rope.close()
    assert BellRope.open(offer) is None


def test_what_was_said_before_leaving_is_heard(bell: Doorbell) -> None:
    rope = opened(bell.offer)
    rope.pull(b"x" * LENGTH)
    rope.close()
    assert bell.hear() == b"x" * LENGTH


def test_what_is_no_bell_is_not_opened(bell: Doorbell) -> None:
    assert BellRope.open(replace(bell.offer, name="pipe:[1]")) is None
    assert BellRope.open(replace(bell.offer, descriptor=bell.offer.descriptor + 1000)) is None
    assert BellRope.open(replace(bell.offer, process=int(Path("/proc/sys/kernel/pid_max").read_text()) + 1)) is None


def test_nothing_stays_open() -> None:
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    bell = Doorbell(LENGTH)
    opened(bell.offer).close()
    bell.close()
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
