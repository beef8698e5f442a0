"""Names of classes, from the text files in published archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.datasets.files.opening import open_file
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# By format and label column: name of the file, and number of its lines.
FILES: dict[tuple[str, str | None], tuple[str, int]] = {
    ("cifar10", "label"): ("batches.meta.txt", 10),
    ("cifar100", "label"): ("fine_label_names.txt", 100),
    ("cifar100", "coarse_label"): ("coarse_label_names.txt", 20),
}
LONGEST = 64 * 1024  # bytes of such a file


def published_names(files: Sequence[Path], format_name: str, label: str | None) -> list[str] | None:
    """The names of a label's classes in order; None if `files` do not include them.

    Raises DatasetError where the file has another number of names than there are classes, or is no text.
    """
    if (format_name, label) not in FILES:
        return None
    name, count = FILES[format_name, label]
    found = next((file for file in files if file.name.lower() == name), None)
    if found is None:
        return None
    with open_file(found) as file:
        content = file.read(LONGEST)
    try:
        lines = [line.strip() for line in content.decode().splitlines()]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name} is not a text file of class names: {error}; give them in `classes`") from error
    names = [line for line in lines if line]
    if len(names) != count or len(set(names)) != count:
        raise DatasetError(
            f"{name} has {len(names)} lines and {len(set(names))} different names; it must name {count} classes, or "
            "`classes` do so"
        )
    return names
