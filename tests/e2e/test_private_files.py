"""What a running stack leaves on the machine: nothing of it is for other accounts."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.stack import digits_job, marked_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client
    from tests.e2e.stack import Stack

OTHERS = stat.S_IROTH | stat.S_IWOTH
SHARED = ("/dev/shm", "/tmp", "/var/tmp", "/run")


def for_others(path: Path, *, base: Path) -> Iterator[Path]:
    """Everything below `path` that another account can read or change, if it can enter `base`.

    A directory that it cannot enter hides what is in it, whatever the permissions there are.
    """
    for parent in reversed(path.relative_to(base).parents[:-1]):
        if not (base / parent).stat().st_mode & stat.S_IXOTH:
            return
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # a temporary file
        return
    if stat.S_ISLNK(mode):
        return
    if mode & OTHERS and path != base:
        yield path
    if stat.S_ISDIR(mode) and (mode & stat.S_IXOTH or path == base):
        for entry in path.iterdir():
            yield from for_others(entry, base=base)


def opened_by(stack: Stack) -> set[Path]:
    """Files that a process of the stack has open or mapped."""
    found = set()
    for line in marked_processes(stack.mark):
        for kind in ("fd", "map_files"):
            for entry in Path("/proc", line.split()[0], kind).iterdir():
                try:
                    found.add(entry.readlink())
                except FileNotFoundError:
                    continue
    return found


def sockets_of(stack: Stack) -> set[str]:
    """Names of the Unix sockets of the stack's processes; those of an abstract address begin with @."""
    inodes = {str(path) for path in opened_by(stack)}
    lines = [line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {line[7] for line in lines if len(line) == 8 and f"socket:[{line[6]}]" in inodes}


def test_no_other_account_can_reach_what_the_stack_leaves(stack: Stack, client: Client) -> None:
    job = client.submit(digits_job()).wait(timeout=60)
    assert job["state"] == "succeeded"
    for name in ("gradfleet.db", "logs/gradfleet.log", "mlflow/mlflow.db", f"jobs/{job.id}", "uploads", "ray"):
        assert (stack.data_dir / name).exists(), "the walk below must meet it"
    assert stack.data_dir.stat().st_mode & stat.S_IXOTH, "other accounts can enter the data directory"
    assert list(for_others(stack.data_dir, base=stack.data_dir)) == []

    temporary = (stack.data_dir / "ray").resolve()
    assert (temporary / "ray").stat().st_mode & stat.S_IWOTH, "Ray opens its directory, so it must not be the outer one"
    assert list(for_others(temporary, base=temporary.parent)) == []

    names = sockets_of(stack)
    assert any("plasma_store" in name for name in names)
    assert [name for name in names if name.startswith("@")] == [], "an abstract address has no permissions"
    places = [path for path in map(Path, (*names, *opened_by(stack))) if str(path).startswith(SHARED) and path.exists()]
    assert len(places) > len(names) / 2
    reached = {found for path in places for found in for_others(path, base=Path("/"))}
    assert not reached
    assert list(stack.data_dir.parent.iterdir()) == [stack.data_dir], "nothing is written beside the data directory"
