"""What is wrong with a spec, field by field."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldProblem:
    """An error in a spec: the dotted path of the field, and what is allowed."""

    field: str
    message: str


class SpecError(ValueError):
    """A spec that cannot run on its dataset; `problems` lists all errors, field by field."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
