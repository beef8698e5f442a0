"""What may help a job whose loss is no longer a finite number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.data.scaling import far_from_standard, standardization

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core import Task
    from workers.data.splitting import Rows
    from workers.job.spec import DataSpec


def advice(data: DataSpec, task: Task, truth: NDArray[Any], rows: Rows) -> str:
    """Name the settings that may help, the most likely one first, from a job's training `rows`.

    Settings that would change nothing are left out.
    """
    changes = []
    if task == "regression" and not data.standardize_targets:
        found = standardization(truth, rows)
        far = far_from_standard(found.mean, found.deviation)
        if far.any():
            first = int(far.argmax())
            changes.append(
                f"data.standardize_targets true (target {first + 1} has the mean {found.mean[first]:.3g} and the "
                f"standard deviation {found.deviation[first]:.3g})"
            )
    if not data.standardize:
        changes.append("features on a smaller scale")
    changes.append("a smaller learning rate")
    return f"{', or '.join(changes)}, may help" if len(changes) > 1 else f"{changes[0]} may help"
