"""`gradfleet datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import DEFAULT_URL, Url, connected, say
from service.cli.tables import print_table

datasets = typer.Typer(help="Register and list datasets.", no_args_is_help=True)


@datasets.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name under which jobs find it.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Parquet file below the service's uploads.", show_default=False)],
    label: Annotated[str, typer.Option(help="Column of the class.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Register a Parquet file on the service's machine under a name."""
    with connected(url) as client:
        dataset = client.register_dataset(name, file.absolute(), label)
    shape = f"{dataset['rows']} rows, {dataset['features']} features, {len(dataset['classes'])} classes"
    say(f"{dataset['name']}: {shape}")


@datasets.command("list")
def list_datasets(url: Url = DEFAULT_URL) -> None:
    """List the datasets."""
    with connected(url) as client:
        found = client.datasets()
    rows = [
        (entry["name"], str(entry["rows"]), str(entry["features"]), str(len(entry["classes"])), entry["label"])
        for entry in found
    ]
    print_table(("name", "rows", "features", "classes", "label"), rows)
