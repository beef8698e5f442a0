"""Generate the reference pages in docs/reference from the registered classes and their docstrings.

Run by `make reference`. With `--check`, only report which pages are out of date.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from pathlib import Path

from core import Entry, Loss, Metric, Node, RankingMetric, Registered, registered
from core.registry import alternatives, item_type

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent / "reference"
PAGES = {
    "layer": ("layers", "Layers"),
    "block": ("blocks", "Blocks"),
    "loss": ("losses", "Losses"),
    "metric": ("metrics", "Metrics"),
    "optimizer": ("optimizers", "Optimizers"),
    "schedule": ("schedules", "Schedules"),
    "clipping": ("clippings", "Clippings"),
    "penalty": ("penalties", "Penalties"),
    "initializer": ("initializers", "Initializers"),
    "augmentation": ("augmentations", "Augmentations"),
}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
# Methods whose docstrings are added to that of the class, and the label of each.
ASPECTS = {"parameters": "Learns", "infer": "Output", "backward": "Gradients"}
MADE = "Generated from the docstrings by `make reference`; do not edit.\n"


def pages() -> dict[str, str]:
    """Return the text of each page, by file name."""
    texts = {f"{PAGES[kind][0]}.md": _page(kind) for kind in PAGES}
    return {"README.md": _index()} | texts


def _index() -> str:
    lines = ["# Reference", "", MADE]
    lines += [
        "Everything that the spec of a job can use, and the metrics that are computed of its model.",
        "[Models](../models.md) explains how layers form a model.",
        "",
    ]
    for kind, (file, title) in PAGES.items():
        lines += [f"## [{title}]({file}.md)", ""]
        lines += [f"- [`{name}`]({file}.md#{name}): {_first_sentence(cls)}" for name, cls in registered(kind).items()]
        lines.append("")
    return "\n".join(lines)


def _page(kind: str) -> str:
    _, title = PAGES[kind]
    parts = [f"# {title}", MADE]
    for name, cls in registered(kind).items():
        source = f"{cls.__module__.replace('.', '/')}.py"
        parts += [f"## {name}", inspect.cleandoc(cls.__doc__ or "")]
        aspects = list(_aspects(cls))
        if aspects:
            parts.append("\n".join(f"- {aspect}" for aspect in aspects))
        table = _table(cls)
        if table or not issubclass(cls, Metric):
            parts.append("\n".join(table) if table else "No hyper-parameters.")
        parts.append(f"Defined in [`{source}`](../../{source}).")
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _first_sentence(cls: type[Registered]) -> str:
    text = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "."


def _aspects(cls: type[Registered]) -> Iterator[str]:
    """Yield labelled sentences: what the class declares, and what its methods' docstrings add to its own docstring."""
    if issubclass(cls, (Loss, Metric)):
        yield f"Tasks: {', '.join(sorted(cls.tasks))}"
    if issubclass(cls, Metric):
        yield f"Best: the {'highest' if cls.higher_is_better else 'lowest'} value"
        yield f"Computed: {'at the end of training' if issubclass(cls, RankingMetric) else 'after every epoch'}"
    has_derivative = re.search("gradient|derivative", cls.__doc__ or "")
    for method, word in ASPECTS.items():
        doc = getattr(vars(cls).get(method), "__doc__", None)
        if issubclass(cls, Node) and doc and not (method == "backward" and has_derivative):
            said = " ".join(inspect.cleandoc(doc).split())
            verb, _, rest = said.partition(" ")
            # A method's docstring begins with what it does; the page shows only the result.
            yield f"{word}: {rest if verb in {'Return', 'Write'} else said[0].lower() + said[1:]}"


def _table(cls: type[Registered]) -> list[str]:
    rows = [
        f"| `{field.name}` | {_type_in_spec(cls, field.name)} | {_default(field)} | {_bounds(field)} | "
        f"{field.metadata['doc'].replace('|', chr(92) + '|')} |"
        for field in dataclasses.fields(cls)
    ]
    return ["| field | type | default | bounds | meaning |", "|---|---|---|---|---|", *rows] if rows else []


def _type_in_spec(cls: type[Registered], name: str) -> str:
    weights = issubclass(cls, Loss) and name == "class_weights"
    return _type(cls.annotations[name]) + (' or `"balanced"`' if weights else "")


def _type(annotation: typing.Any) -> str:
    if (item := item_type(annotation)) is not None:
        return f"list of {_type(item)}"
    if (choices := alternatives(annotation)) is not None:
        null = ["null"] if types.NoneType in typing.get_args(annotation) else []
        return " or ".join([*map(_type, choices), *null])
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(f"`{json.dumps(each)}`" for each in typing.get_args(annotation))
    if annotation is Entry:
        return "[layer](layers.md) or [block](blocks.md)"
    if issubclass(annotation, Registered):
        return f"[{annotation.kind}]({PAGES[annotation.kind][0]}.md)"
    return str(annotation.__name__)


def _default(field: dataclasses.Field[typing.Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    return f"`{json.dumps(_json(field.default))}`"


def _json(value: typing.Any) -> typing.Any:
    if isinstance(value, tuple):
        return [_json(each) for each in value]
    if isinstance(value, Registered):
        # Only the fields that differ from their defaults.
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        defaults = {field.name: field.default for field in dataclasses.fields(value)}
        return {"type": value.type} | {key: _json(each) for key, each in own.items() if each != defaults[key]}
    return value


def _bounds(field: dataclasses.Field[typing.Any]) -> str:
    return ", ".join(
        f"{sign} {_shown(field.metadata[name])}" for name, sign in SIGNS.items() if field.metadata[name] is not None
    )


def _present() -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(HERE.glob("*.md"))}


def _shown(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def main() -> None:
    """Write the pages, or check them with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is out of date")
    check = parser.parse_args().check
    wanted, present = pages(), _present()
    differing = sorted(name for name in wanted | present if wanted.get(name) != present.get(name))
    if check and differing:
        sys.exit(f"out of date: {', '.join(differing)}; run `make reference`")
    if not check:
        HERE.mkdir(exist_ok=True)
        for name in differing:
            if name in wanted:
                (HERE / name).write_text(wanted[name], encoding="utf-8")
            else:
                (HERE / name).unlink()


if __name__ == "__main__":
    main()
