"""`gradfleet gradcheck`: compare the gradients of a job's model and loss with finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from service.cli.spec_file import SpecFileError
from service.cli.terminal import fail, output, print_line, print_wide, say
from service.visible_text import visible

if TYPE_CHECKING:
    from core.gradcheck.report import GradientReport

# By outcome: right, cannot be checked, wrong.
MARKS = (("ok", "green"), ("UNCHECKED", "yellow"), ("FAILED", "red"))


def gradcheck(
    file: Annotated[Path, typer.Argument(help="Job spec in YAML or JSON, with model.inputs.", show_default=False)],
    rows: Annotated[int, typer.Option(min=1, max=1024, help="Number of samples.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the parameters, samples and labels.")] = 0,
) -> None:
    """Check every gradient of a job's model and loss on random samples and parameters, in float64.

    For each gradient, the entry with the largest error is shown: its index, its value by backward, its value by finite
    differences of the forward pass, and the relative error. Each node is also checked by itself, on batches of several
    sizes, and so is the penalty. The exit status is 1 if a gradient is wrong or cannot be checked.
    """
    from service.cli.gradients import check_spec  # noqa: PLC0415

    try:
        report = check_spec(file, rows, seed)
    except SpecFileError as error:
        fail(*error.lines)
    _show(report, rows)
    if not report.ok:
        raise typer.Exit(1)


def _show(report: GradientReport, rows: int) -> None:
    table = Table(box=None)
    table.add_column("gradient of", no_wrap=True)
    for heading in ("worst entry", "backward", "differences", "relative error", "skipped", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in report.tensors:
        table.add_row(
            visible(each.name),
            "a direction" if each.index is None else str(list(each.index)),
            f"{each.analytic:.10g}",
            f"{each.numeric:.10g}",
            f"{each.error:.1e}",
            f"{each.skipped} of {each.total}",
            Text(*MARKS[each.outcome]),
        )
    if report.tensors:
        print_wide(table)
    for breach in report.breaches:
        print_line(output, f"FAILED: {breach}", "red")
    unchecked = [f"{each.name}: {each.reason}" for each in report.tensors if each.reason] + [*report.unchecked]
    for reason in unchecked:
        print_line(output, f"UNCHECKED: {reason}", "yellow")
    wrong = len(report.breaches) + sum(not each.ok and not each.reason for each in report.tensors)
    counts = [f"{wrong} FAILED"] * bool(wrong) + [f"{len(unchecked)} cannot be checked"] * bool(unchecked)
    verdict = ", ".join(counts) or "every gradient is right"
    say(f"{verdict}, on {rows} random rows with seed {report.seed}")
