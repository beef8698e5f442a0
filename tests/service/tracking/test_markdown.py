from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from service.sweeps.schemas import ComparisonView
from service.tracking.description import short, tags_of
from service.tracking.markdown import GAP, literal
from service.tracking.sweeps.note import first_note, last_note
from service.visible_text import visible

HOSTILE = [
    "![x](http://evil.example/beacon.png)", "[a](javascript:alert(1))", "<img src=http://evil.example/x.png>",
    "<script>x",
    "`code` **bold** _em_ ~~gone~~", "<http://evil.example>", "http://evil.example www.evil.example a@evil.example",
    "a | b | c",
    "a\n\n# heading\n\n- item", "\\[a\\](b)", "__0__", "a_b__c_",
    "&lt;b&gt; &#42;", "``` a", "[a]: http://evil.example", "$x$",
    "a] (b) ![",
]  # fmt: skip


def rendered(text: str) -> list[Any]:
    """The inline elements of a Markdown text, by a parser that is not ours."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [child for token in tokens for child in (token.children or [])]


def plain(text: str) -> str:
    return "".join(token.content for token in rendered(text))


@given(
    st.text(st.characters(categories=["L", "N", "P", "S"]) | st.sampled_from("\\`*_[]()<>&!|~#: /.@w\n")).filter(
        str.strip
    )
)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    assert plain(f"- name: x{literal(text)}x") == f"name: x{visible(text)}x"


@pytest.mark.parametrize("text", HOSTILE)
def test_examples(text: str) -> None:
    assert plain(f"- name: {literal(text)}") == f"name: {visible(text)}"
    assert {token.type for token in rendered(literal(text))} == {"text"}
    assert not re.search(r"://|www\.|@", literal(text)), "what some renderers make a link"


def test_layers_of_blocks_are_in_the_order_of_the_spec() -> None:
    inner = [{"type": "linear", "units": 4}, {"type": "residual", "layers": [{"type": "relu"}], "shortcut": []}]
    found = plain(short({"type": "repeat", "layers": inner, "times": 3}))
    assert found == "repeat (layers (linear (units 4) → residual (layers (relu), shortcut [])), times 3)"


def test_a_section_of_a_spec_is_json() -> None:
    model = {"layers": [{"type": "linear", "units": 2, "bias": None}], "heads": [], "frozen": True}
    assert json.loads(plain(short(model))) == model
    assert short(True) == "true"


def only_our_elements(note: str) -> None:
    for token in rendered(note):
        assert token.type not in {"image", "html_inline", "softbreak", "hardbreak", "em_open", "s_open"}
        if token.type == "link_open":
            assert token.attrs["href"].startswith("#/experiments/")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_notes_of_runs_have_no_elements_from_names(text: str) -> None:
    dataset = {"rows": 3, "features": 2, "classes": [text]}
    data = {"dataset": text, "validation": 0.0, "split": {"train": [text], "validation": [text]}}
    spec = {
        "data": data, "loss": {"type": "hinge", "margin": text}, "regularization": {text: text},
        "optimizer": {"type": text},
        "training": {"seed": text},
        "model": {
            "layers": [
                {"type": "linear", "name": text}, {"type": "repeat", "layers": [{"type": "relu", "name": text}]},
            ],
            "heads": [{"reads": text, "weight": 0.3, "layers": [{"type": "linear", "name": text}]}],
        },
    }  # fmt: skip
    job: Any = SimpleNamespace(
        labels=[SimpleNamespace(key="a", value=text)], attempt=1, params_sha256=None, reason=text, state="failed",
        step=1, task="classification", validation_metrics=["val/accuracy"], kept=None,
        total_steps=2, latest_metrics={}, spec=spec, dataset=dataset, id="job_1", evaluation=None,
    )  # fmt: skip
    only_our_elements(tags_of(job, {})["mlflow.note.content"])
    for over in (
        {"grid": {text: [text, [text], {"type": text, "a": text}]}},
        {"list": [{text: text}]},
        {"random": {"fields": {text: {"choices": [text]}}, "samples": 1, "seed": 0}},
    ):
        sweep: Any = SimpleNamespace(
            spec={"over": over, "seeds": [text], "stopping": {"type": text}}, parallel=None, id="sweep_1"
        )
        only_our_elements(first_note(sweep))
        member = {
            "id": "job_1", "name": f"a-{text}", "overrides": {"training.seed": text}, "state": "succeeded",
            "reason": text,
            "metrics": {}, "best": {}, "steps": 1, "seconds": None, "params_sha256": None,
            "mlflow": {"run_id": "0", "url": None, "complete": True},
        }  # fmt: skip
        group = {"overrides": {text: text}, "loss": text, "jobs": ["job_1"], "n": 1, "left_out": 0, "metrics": {}}
        comparison = ComparisonView.model_validate({
            "id": "sweep_1", "mlflow": None, "metric": "val/loss", "metrics": [], "members": [member],
            "groups": [group], "left_out": 0,
            "best": 0, "best_per_loss": {text: 0},
        })  # fmt: skip
        only_our_elements(last_note(sweep, "1", {"succeeded": 1}, comparison))


def note_of(
    task: str, metrics: list[str], latest: dict[str, float], kept: dict[str, float], per_target: Any = None, **data: Any
) -> list[str]:
    names = {} if per_target is None else {"target_names": [f"t_{k}" for k in range(len(per_target["r2"]))]}
    targets = len(names.get("target_names", ["one"]))
    spec = {
        "data": {"dataset": "d", "validation": 0.2, **data}, "loss": {"type": "huber"}, "regularization": {},
        "optimizer": {"type": "sgd"}, "training": {}, "model": {"layers": []},
    }  # fmt: skip
    job: Any = SimpleNamespace(
        labels=[], attempt=1, params_sha256=None, reason=None, state="succeeded", step=8, total_steps=8, task=task,
        validation_metrics=metrics, kept={"epoch": 3, "step": 6, "metrics": kept}, id="job_1", spec=spec,
        latest_metrics={name: (8, value) for name, value in latest.items()},
        dataset={"rows": 50, "features": 2, "classes": [], "targets": targets, **names},
        evaluation=per_target and {"per_target": per_target},
    )  # fmt: skip
    return tags_of(job, {})["mlflow.note.content"].split("\n")


def test_the_note_of_a_regression_has_the_errors_in_the_targets_units() -> None:
    metrics = ["val/r2", "val/loss", "val/max_error", "val/mean_absolute_error", "val/root_mean_squared_error"]
    latest = dict(zip(metrics, (0.5, 0.02, 9e5, 41_234.0, 52_345.0), strict=True))
    kept = {name: value / 2 for name, value in latest.items()}
    note = note_of("regression", metrics, latest, kept, standardize_targets=True)
    of_kept = "with the kept parameters, those after epoch 3; last value"
    assert note[2:6] == [
        f"- val/r2: **0.25** {of_kept} **0.5**",
        f"- val/root_mean_squared_error, in the targets' own units: **2.617e+04** {of_kept} **5.234e+04**",
        f"- val/mean_absolute_error, in the targets' own units: **2.062e+04** {of_kept} **4.123e+04**",
        f"- val/loss: **0.01** {of_kept} **0.02**",
    ]
    told = "- targets: standardised for training; train/loss and val/loss are of the standardised targets"
    assert told in note
    assert told not in note_of("regression", metrics, latest, kept, standardize_targets=False)


@pytest.mark.parametrize("targets", [2, 40])
def test_the_note_of_several_targets_has_a_table_and_says_what_the_means_are(targets: int) -> None:
    metrics = ["val/r2", "val/mean_absolute_error", "val/root_mean_squared_error", "val/max_error", "val/loss"]
    per_target = {
        "r2": [0.5, None, *[0.25] * (targets - 2)],
        "root_mean_squared_error": [12_345.6, 0.001] * (targets // 2),
        "mean_absolute_error": [10_000.0, 0.0009] * (targets // 2),
        "max_error": [1.0] * targets,
    }
    note = note_of("regression", metrics, {}, dict.fromkeys(metrics, 0.5), per_target)
    assert note[2].startswith(f"- val/r2, mean over {targets} targets: **0.5**")
    assert note[3].startswith(f"- val/root_mean_squared_error, mean over {targets} targets, each in its own units: ")
    start = next(place for place, line in enumerate(note) if line.startswith("| target"))
    rows = [[cell.strip() for cell in line.replace(GAP, "").strip("|").split("|")] for line in note[start:]]
    assert rows[0] == ["target", "r2", "root_mean_squared_error", "mean_absolute_error"]
    assert rows[2] == ["t_0", "0.5", "1.235e+04", "1e+04"]
    assert rows[3] == ["t_1", "not a finite number", "0.001", "0.0009"]
    shown = [row[0] for row in rows[2:] if row[0].startswith("t_")]
    assert shown == [f"t_{k}" for k in range(min(targets, 12))]
    assert ("The other 28 are in `model/evaluation.json`" in "\n".join(note)) == (targets > 12)
    only_our_elements("\n".join(note))


def test_the_note_of_two_classes_has_the_area_under_the_roc_curve() -> None:
    metrics = ["val/accuracy", "val/loss", "val/roc_auc"]
    note = note_of("binary", metrics, {"val/accuracy": 0.75, "val/loss": 0.5}, {"val/roc_auc": 0.875, "val/loss": 0.5})
    # It is computed after training only, so it has no last value.
    assert "- val/roc_auc: **0.875** with the kept parameters, those after epoch 3" in note
