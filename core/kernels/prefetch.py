"""Software prefetching in loops that Numba compiles, for memory accesses that the processor cannot predict."""

from __future__ import annotations

from functools import cache
from typing import Any

from core.arrays import Array

LINE = 64  # bytes per prefetch


def prefetch(table: Array, row: int, column: int) -> None:
    """Prefetch the cache line of an element of a table, in a compiled loop; otherwise do nothing."""


@cache
def declare_prefetch() -> None:
    """Declare `prefetch` to Numba, if installed. Call it before compiling a loop that uses `prefetch`.

    Measured on rows in random order of a table larger than the caches: a loop with it reads twice as fast as without
    it, or as with ordinary loads in its place, on which the processor waits.

    Lines are prefetched into the level-two cache, which can have half as many more outstanding as the level-one cache.
    """
    try:
        from llvmlite import ir  # noqa: PLC0415 - optional, and slow to import
        from numba import types  # noqa: PLC0415
        from numba.core import cgutils  # noqa: PLC0415
        from numba.extending import intrinsic, overload  # noqa: PLC0415
    except ImportError:
        return

    declare_function: Any = cgutils.get_or_insert_function
    pointer_to: Any = cgutils.get_item_pointer

    def typed(_: Any, table: Any, row: Any, column: Any) -> tuple[Any, Any]:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = signature.args[0]
            array = context.make_array(kind)(context, builder, arguments[0])
            element = pointer_to(context, builder, kind, array, list(arguments[1:]))
            address, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            form = ir.FunctionType(ir.VoidType(), [address, number, number, number])
            function = declare_function(builder.module, form, "llvm.prefetch.p0i8")
            # For reading (0), into the level-two cache (2), data (1).
            builder.call(function, [builder.bitcast(element, address), number(0), number(2), number(1)])
            return context.get_dummy_value()

        return types.void(table, row, column), generate

    hint: Any = intrinsic(typed)

    @overload(prefetch)
    def compiled(table: Any, row: Any, column: Any) -> Any:  # noqa: ARG001 - Numba passes the types of the arguments
        def call(table: Any, row: Any, column: Any) -> Any:
            hint(table, row, column)

        return call
