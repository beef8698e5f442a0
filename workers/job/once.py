"""Results that several specs share, so that each is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Result = TypeVar("Result")


class Once:
    """What was computed from objects that do not change: graphs of models, weights of datasets and so on.

    `before` is called before each computation; what it raises ends the work.
    """

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._before = before
        self._found: dict[tuple[int, Hashable], tuple[object, Any, ValueError | None]] = {}

    def __call__(self, owner: object, key: Hashable, make: Callable[[], Result]) -> Result:
        """The result of `make`, or the ValueError that it raises, for this object (itself, not an equal one) and key.

        Another `make` for the same owner needs another key.
        """
        at = id(owner), key
        if at not in self._found:
            self._before()
            try:
                self._found[at] = owner, make(), None
            except ValueError as error:
                self._found[at] = owner, None, error
        _, result, raised = self._found[at]  # the owner is kept, so that no other object gets its id
        if raised is not None:
            raise raised
        return result  # type: ignore[no-any-return]
