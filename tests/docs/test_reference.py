"""The pages under docs/ agree with the code."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from core import build_classifier, entry_from_spec, to_mermaid

ROOT = Path(__file__).parents[2]


def make_reference(docs, *options):
    return subprocess.run(
        [sys.executable, str(docs / "make_reference.py"), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_pages_are_generated_from_the_docstrings():
    done = make_reference(ROOT / "docs", "--check")
    assert done.returncode == 0, done.stderr


def test_outdated_pages_are_reported_and_rewritten(tmp_path):
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs)
    make_reference(docs)
    page = docs / "reference" / "layers.md"
    expected = page.read_text()
    page.write_text(expected.replace("linear", "linaer"))
    (docs / "reference" / "gone.md").touch()
    done = make_reference(docs, "--check")
    assert done.returncode == 1
    assert "out of date: gone.md, layers.md" in done.stderr
    assert make_reference(docs).returncode == 0
    assert page.read_text() == expected
    assert make_reference(docs, "--check").returncode == 0


def test_targets_of_links_exist():
    for page in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_models_on_the_page_are_valid():
    text = (ROOT / "docs" / "models.md").read_text()
    chain, branches, *others = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    for model in (*others, chain, branches):
        graph = build_classifier([entry_from_spec(layer) for layer in model["layers"]], model.get("inputs", 64))
        assert graph.shapes(2)["scores"] == (2, 10)
    (picture,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert picture == to_mermaid(graph)
