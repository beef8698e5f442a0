"""`gradfleet datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import DEFAULT_URL, Url, connected
from service.cli.tables import print_table
from service.cli.terminal import fail, say, warn
from service.short_text import counted

if TYPE_CHECKING:
    from service.client.views import Column, Dataset, DatasetDetail, DatasetOptions, PreviewRow, RegisteredDataset

datasets = typer.Typer(help="Register, list and show datasets.", no_args_is_help=True)

SHOWN_NUMBERS = 8
SHOWN_COLUMNS = 40
LONGEST_EXAMPLE = 20  # characters


@datasets.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name of the dataset.", show_default=False)],
    file: Annotated[
        str,
        typer.Argument(
            help="File or directory that the service may read, as seen from here or from its uploads, or an s3:// or "
            "gs:// URI: Parquet, Arrow, CSV, JSON, ORC, Excel, .npy, .npz, IDX or CIFAR's binary format, optionally "
            "gzipped or in a .zip or .tar.",
            show_default=False,
        ),
    ],
    label: Annotated[str | None, typer.Option(help="Column of the class; default: label.")] = None,
    labels: Annotated[str | None, typer.Option(help="Separate file with the labels.")] = None,
    feature: Annotated[list[str] | None, typer.Option(help="Feature column, or a pattern; repeatable.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Column that is left out, or a pattern; repeatable.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Column of integers that are categories, such as codes; repeatable.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Column to predict instead of a label; repeatable.")] = None,
    class_name: Annotated[list[str] | None, typer.Option("--class", help="Name of the next class; repeatable.")] = None,
    split_column: Annotated[
        str | None, typer.Option(help="Column that divides the rows into training and validation rows.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Shape of a row as an image, such as 28x28 or 32x32x3.")] = None,
    format_name: Annotated[str | None, typer.Option("--format", help="Format; default: by the file names.")] = None,
    upload: Annotated[bool, typer.Option("--upload", help="Upload the file from this machine.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Register files as a dataset. New content under an existing name becomes its next version."""
    options: DatasetOptions = {
        "features": feature or [],
        "exclude": exclude or [],
        "categories": category or [],
        "targets": target or [],
        "classes": class_name or [],
        "shape": _shape(shape) if shape else [],
    }
    if split_column:
        options["split_column"] = split_column
    if format_name:
        options["format"] = format_name
    if upload and labels:
        fail("--upload sends one file; put labels and images into one .zip or .tar")
    with connected(url) as client:
        if upload:
            if not Path(file).is_file():
                fail(f"{file} is not a file on this machine")
            dataset = client.upload_dataset(name, file, label, **options)
        else:
            dataset = client.register_dataset(name, _place(file), label, labels=labels and _place(labels), **options)
        detail = client.dataset(f"{dataset['name']}@{dataset['version']}")
    say(f"{dataset['name']}: {_summary(dataset)}")
    _show_columns(detail)
    _show_warnings(dataset)


@datasets.command("examples")
def add_examples(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Register these; default: list all.", show_default=False),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """List the datasets that scikit-learn brings, or register some of them."""
    with connected(url) as client:
        if names:
            for name in names:
                dataset = client.register_example(name)
                say(f"{dataset['name']}: {_summary(dataset)}")
            return
        found = client.examples()
    rows = [
        (
            each["name"],
            str(each["rows"]),
            str(each["features"]),
            str(len(each["classes"]) or "a number"),
            "x".join(map(str, each["shape"] or [])),
            each["description"],
        )
        for each in found
    ]
    print_table(("name", "rows", "features", "classes", "image", "description"), rows)


@datasets.command("list")
def list_datasets(url: Url = DEFAULT_URL) -> None:
    """List the newest version of each dataset."""
    with connected(url) as client:
        found = client.datasets()
    rows = [
        (
            entry["name"],
            str(entry["version"]),
            str(entry["rows"]),
            str(entry["features"]),
            str(len(entry["classes"]) or counted(entry["targets"], "target")),
            entry["label"] or "",
            entry["dtype"],
            "x".join(map(str, entry["shape"] or [])),
        )
        for entry in found
    ]
    print_table(("name", "version", "rows", "features", "classes", "label", "dtype", "image"), rows)


@datasets.command("delete")
def delete_dataset(
    name: Annotated[str, typer.Argument(help="Name, or name@version.", show_default=False)], url: Url = DEFAULT_URL
) -> None:
    """Delete a dataset with all its versions, or one version. No job that has not ended may use it."""
    with connected(url) as client:
        client.delete_dataset(name)
    say(f"{name} deleted")


@datasets.command("show")
def show_dataset(
    name: Annotated[str, typer.Argument(help="Name, or name@version.", show_default=False)],
    rows: Annotated[int, typer.Option(min=1, max=100, help="Number of rows to show.")] = 5,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Write some of the images to this PNG file, a row for each class.")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Show a dataset and its first rows."""
    with connected(url) as client:
        dataset = client.dataset(name)
        preview = client.preview_dataset(name, rows)
        picture = client.contact_sheet(name) if contact_sheet else b""
    say(f"{dataset['name']}@{dataset['version']}: {_summary(dataset)}")
    say(f"from {dataset['source']} ({dataset['format']}), sha256 {dataset['digest']}")
    if dataset["split_column"]:
        parts = ", ".join(f"{value} {count}" for value, count in dataset["splits"].items())
        say(f"rows by {dataset['split_column']}: {parts}")
    for version in dataset["versions"]:
        say(f"  version {version['version']}: {counted(version['rows'], 'row')}, created {version['created_at']}")
    _show_columns(dataset)
    _show_warnings(dataset)
    _print_rows(dataset, preview)
    if contact_sheet:
        contact_sheet.write_bytes(picture)
        say(f"wrote {contact_sheet}")


def _place(file: str) -> str:
    """A file on this machine by its absolute path; the service resolves anything else, from its uploads."""
    try:
        here = "://" not in file and Path(file).exists()
    except (OSError, ValueError):  # a name that no file can have
        here = False
    return str(Path(file).absolute()) if here else file


def _shape(text: str) -> list[int]:
    try:
        return [int(part) for part in text.lower().split("x")]
    except ValueError:
        raise typer.BadParameter(f"must be a shape such as 28x28 or 32x32x3, not {text!r}") from None


def _summary(dataset: Dataset) -> str:
    classes, targets = len(dataset["classes"]), dataset["targets"]
    outputs = counted(classes, "class", "classes") if classes else counted(targets, "target")
    return f"{counted(dataset['rows'], 'row')}, {counted(dataset['features'], 'feature')}, {outputs}"


def _show_columns(dataset: DatasetDetail) -> None:
    """Print what was recognised: the form of the files, the columns, and those that are left out."""
    if dataset.get("recognized"):
        say(f"recognised: {', '.join(dataset['recognized'])}")
    columns = dataset["columns"]
    if columns and "kind" in columns[0]:  # an older service has no kinds
        rows = [
            (
                column["name"],
                column["kind"] if column["width"] == 1 else f"{column['kind']} ({counted(column['width'], 'number')})",
                ", ".join(_short(example) for example in column["examples"]),
                _distinct(column),
                str(column["missing"] or ""),
            )
            for column in columns[:SHOWN_COLUMNS]
        ]
        print_table(("column", "kind", "examples", "distinct", "missing"), rows)
        if columns[SHOWN_COLUMNS:]:
            say(f"and {counted(len(columns) - SHOWN_COLUMNS, 'more column')}")
    out = dataset.get("left_out", [])
    for column in out[:SHOWN_COLUMNS]:
        say(f"left out: {column['name']} {column['reason']}")
    if out[SHOWN_COLUMNS:]:
        say(f"and {counted(len(out) - SHOWN_COLUMNS, 'more column')}")


def _value(value: float | str | None) -> str:
    if value is None:
        return ""
    return _short(value) if isinstance(value, str) else f"{value:.6g}"


def _distinct(column: Column) -> str:
    if column["distinct"] is None:
        return "" if column["width"] > 1 and column["kind"] == "number" else "> 1,000"
    return f"{column['distinct']:,}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_EXAMPLE else f"{text[: LONGEST_EXAMPLE - 3]}..."


def _show_warnings(dataset: RegisteredDataset | DatasetDetail) -> None:
    for warning in dataset.get("warnings", []):  # an older service has none
        warn(f"{warning['field']}: {warning['message']}")


def _print_rows(dataset: DatasetDetail, preview: list[PreviewRow]) -> None:
    """Print rows with their first features."""
    shown = min(dataset["features"], SHOWN_NUMBERS)
    more = ("...",) if dataset["features"] > shown else ()
    one_each = all(column["width"] == 1 for column in dataset["columns"]) and dataset["columns"]
    names = [column["name"] for column in dataset["columns"]] if one_each else [str(n + 1) for n in range(shown)]
    last = (dataset["label"] or "label",) if dataset["classes"] else ("targets",)
    table = [
        (
            str(index),
            *(_value(value) for value in row["features"][:shown]),
            *more,
            row["label"] or " ".join(f"{value:.6g}" for value in row["targets"]),
        )
        for index, row in enumerate(preview, 1)
    ]
    print_table(("row", *names[:shown], *more, *last), table)
