"""The Idempotency-Key of requests.

A client may send one with every POST. Only submitting a job or a sweep has to remember it: what the others ask for is
there, or not, once and for all, so that asking again changes nothing and a stored answer would only be an old one.
"""

from typing import Annotated

from fastapi import Depends, Header

# Of a POST that makes something new each time.
IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, description="Makes a repeated request safe."),
]


def _take_key(
    _key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Accepted and not needed: this request can be repeated without harm.",
        ),
    ] = None,
) -> None:
    """Describe the header."""


# For `dependencies=` of a POST that is idempotent by nature.
IDEMPOTENT = Depends(_take_key)
