"""A hint to the processor, in loops that Numba compiles: some memory will be read soon, at a place it can not guess."""

from __future__ import annotations

from functools import cache
from typing import Any

from core.arrays import Array

LINE = 64  # bytes that one hint brings


def prefetch(table: Array, row: int, column: int) -> None:
    """Begin to bring the cache line of an element of a table, where the loop is compiled; else do nothing."""


@cache
def declare_prefetch() -> None:
    """Tell Numba, where it is installed, what `prefetch` is: needed before a loop with it is compiled.

    Measured on rows in random order of a table larger than the caches: with it a loop reads twice as fast as without
    it, and as with loads in its place, which make the processor wait.

    Lines are brought into the level-two cache. It has more of them under way at a time than the first level, by half.
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
            # To be read, into the level-two cache, data.
            builder.call(function, [builder.bitcast(element, address), number(0), number(2), number(1)])
            return context.get_dummy_value()

        return types.void(table, row, column), generate

    hint: Any = intrinsic(typed)

    @overload(prefetch)
    def compiled(table: Any, row: Any, column: Any) -> Any:  # noqa: ARG001 - Numba asks by the arguments' types
        def call(table: Any, row: Any, column: Any) -> Any:
            hint(table, row, column)

        return call
