"""Estimated size of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

if TYPE_CHECKING:
    from collections.abc import Sequence


def row_bytes(schema: pa.Schema, columns: Sequence[str]) -> int:
    """Approximate bytes of a row with these columns; lists of variable length count as a thousand numbers."""
    return sum(_bytes(schema.field(name).type) for name in columns)


def _bytes(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pt.is_fixed_size_list(kind):
        return int(kind.list_size) * _bytes(kind.value_type)
    if pt.is_list(kind) or pt.is_large_list(kind):
        return 1000 * _bytes(kind.value_type)
    return -(-int(kind.bit_width) // 8) if pt.is_primitive(kind) else 8
