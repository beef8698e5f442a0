"""How much a user's request may ask of MLflow, so that none occupies a thread of the server for long."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# The dashboard asks for up to 100 runs per page, and names runs and models by their ids: `run_id IN ('...', '...')`.
MOST_ENTRIES = {"experiment_ids": 1000, "order_by": 10}
MOST_OTHER_ENTRIES = 100
LONGEST_TEXT = 2000  # characters of names and keys
LONGEST_FILTER = 4000  # without ids in quotes
MOST_IDS = 1000
MOST_CLAUSES = 30
# Results of a search for runs or models, which have all their metrics and parameters.
LARGEST_PAGE = 1000
MOST_RESULTS = 50_000  # of others; MLflow's client asks for up to 10,000
LONGEST_QUERY = 20_000  # characters of GraphQL
UNLIMITED = {"page_token"}  # only as long as the request

ID = re.compile(r"'[\w.-]{1,64}'\s*,?\s*", re.ASCII)


def excess(fields: Mapping[str, Any], most_results: int = LARGEST_PAGE) -> str:
    """What asks for too much in the fields of a request; empty if nothing does."""
    problems = (_excess(_snake_case(name), value, most_results) for name, value in fields.items())
    return next(filter(None, problems), "")


def smaller_page(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a search with at most `LARGEST_PAGE` results; the answer has a token for the next ones."""
    return {
        name: LARGEST_PAGE if _snake_case(name) == "max_results" and LARGEST_PAGE < _number(value) <= MOST_RESULTS
        else value
        for name, value in body.items()
    }  # fmt: skip


def graphql_problem(body: Mapping[str, Any]) -> str:
    """What is wrong with a GraphQL request; empty if nothing is. MLflow itself limits the number of its fields."""
    from graphql import GraphQLError, parse  # noqa: PLC0415  a dependency of MLflow's server
    from graphql.language import FieldNode, VariableDefinitionNode, VariableNode, Visitor, visit  # noqa: PLC0415

    literal = False

    class Literals(Visitor):
        """Finds values in the query itself."""

        def enter_field(self, node: FieldNode, *_: Any) -> None:
            nonlocal literal
            literal |= any(not isinstance(argument.value, VariableNode) for argument in node.arguments)

        def enter_variable_definition(self, node: VariableDefinitionNode, *_: Any) -> None:
            nonlocal literal
            literal |= node.default_value is not None

    query = body.get("query")
    if not isinstance(query, str) or len(query) > LONGEST_QUERY:
        return f"query: must be text of at most {LONGEST_QUERY} characters"
    try:
        visit(parse(query), Literals())
    except GraphQLError as error:
        return f"query: {error.message[:200]}"
    if literal:
        return "query: the arguments of fields must be variables without defaults"
    return excess({"variables": body.get("variables")})


def _excess(name: str, value: Any, most_results: int) -> str:
    match value:
        case dict():
            return excess(value, most_results)
        case list():
            return _excess_of_list(name, value, most_results)
        case str() if name == "filter":
            return _excess_of_filter(value)
        case str() if len(value) > LONGEST_TEXT and name not in UNLIMITED:
            return f"{name[:50]}: has {len(value)} characters; at most {LONGEST_TEXT} are allowed"
    if name == "max_results" and _number(value) > most_results:
        return f"max_results: at most {most_results} are allowed; ask for the next page with page_token"
    return ""


def _excess_of_list(name: str, value: list[Any], most_results: int) -> str:
    most = MOST_ENTRIES.get(name, MOST_OTHER_ENTRIES)
    if len(value) > most:
        return f"{name[:50]}: has {len(value)} entries; at most {most} are allowed"
    return next(filter(None, (_excess(name, each, most_results) for each in value)), "")


def _excess_of_filter(text: str) -> str:
    rest, ids = ID.subn("", text)
    if len(rest) > LONGEST_FILTER or ids > MOST_IDS:
        return f"filter: at most {MOST_IDS} ids in quotes and {LONGEST_FILTER} other characters are allowed"
    if text.lower().count("and") >= MOST_CLAUSES:
        return f"filter: at most {MOST_CLAUSES} conditions are allowed"
    return ""


def _number(value: Any) -> float:
    """A number in JSON or in a query; 0 for everything else, which MLflow rejects."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _snake_case(name: str) -> str:
    """MLflow accepts names in both spellings."""
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)
