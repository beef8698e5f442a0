from __future__ import annotations

import io
import json
import math
import string
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from service.cli import spec_file
from service.cli.main import app as command_line
from service.cli.spec_file import LARGEST_FILE, SpecFileError, read_spec
from service.cli.yaml_values import LARGEST_VALUE, parse

if TYPE_CHECKING:
    from pathlib import Path

# By section 10.3.2 of YAML 1.2.2, and for a string everything that only YAML 1.1 takes for something else.
PLAIN_VALUES: dict[str, Any] = {
    "": None, "~": None, "null": None, "NULL": None, "nuLL": "nuLL",
    "true": True, "True": True, "FALSE": False, "tRue": "tRue", "yes": "yes", "no": "no", "on": "on", "Off": "Off",
    "y": "y",
    "0": 0, "010": 10, "-12": -12, "+7": 7, "0o10": 8, "0o17": 15, "0x1F": 31, "1_000": "1_000", "0b11": "0b11",
    "1:30": "1:30",    "-0x1F": "-0x1F", "0o8": "0o8",
    "1.": 1.0, ".5": 0.5, "-2E5": -2e5, "1e3": 1000.0, "1e-4": 1e-4, "12e03": 12000.0, "1.5e+3": 1500.0, "1e": "1e",
    ".": ".",    "1_0.5": "1_0.5", "+.inf1": "+.inf1",
    "2024-01-01": "2024-01-01", "2024-01-01 10:00:00": "2024-01-01 10:00:00", "=": "=",
}  # fmt: skip


def written(directory: Path, text: str | bytes, name: str = "job.yaml") -> Path:
    file = directory / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


@pytest.mark.parametrize("text", PLAIN_VALUES)
def test_values_without_quotes(text: str) -> None:
    value = parse(f"a: {text}")["a"]
    assert (type(value), value) == (type(PLAIN_VALUES[text]), PLAIN_VALUES[text])
    assert parse(f"[{text}]")[0:1] == [PLAIN_VALUES[text]][: len(text)]
    assert parse(f"a: '{text}'") == {"a": text}


def test_keys_are_text_as_written() -> None:
    assert parse("1: a\ntrue: b\n010: c\nno: d\n~: e\n") == {"1": "a", "true": "b", "010": "c", "no": "d", "~": "e"}


def test_blocks_quotes_and_aliases() -> None:
    text = 'a: &x {b: [1, 2]}\nc: *x\nd: |\n  one\n  two\ne: >-\n  one\n  two\nf: "\\u00e9\\n"\n? g\n: 1\n'
    assert parse(text) == {
        "a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": "one\ntwo\n", "e": "one two", "f": "é\n", "g": 1,
    }  # fmt: skip


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii") | st.sampled_from("äé€漢"), max_size=12),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(string.ascii_letters + " :#-'", max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON_VALUES)
def test_json_means_the_same_as_yaml(value: Any) -> None:
    text = json.dumps({"spec": value}).replace("\x7f", "\\u007f")  # YAML has no DEL, JSON escapes it
    assert parse(text) == json.loads(text)


@given(JSON_VALUES)
def test_what_yaml_tools_write_is_read_back(value: Any) -> None:
    assert parse(yaml.safe_dump({"spec": value}, sort_keys=False)) == {"spec": value}


WRONG = {
    "duplicate key": ("lr: 0.1\nepochs: 2\nlr: 0.7\n", "line 3, column 1: the key 'lr' occurs twice"),
    "duplicate key below": ("a:\n  b: {c: 1, 'c': 2}\n", "line 2, column 13: the key 'c' occurs twice"),
    "keys that JSON does not distinguish": ("labels: {1: a, '1': b}\n", "line 1, column 16: the key '1' occurs twice"),
    "tag": ("seed: !!int '3'\n", "line 1, column 7: tags such as"),
    "tag of Python": ("a: !!python/object/apply:os.system [ls]\n", "line 1, column 4: tags such as"),
    "tag of a key": ("!!str a: 1\n", "line 1, column 1: tags such as"),
    "tag of a set": ("a: !!set {b, c}\n", "line 1, column 4: tags such as"),
    "tag without a handle": ("a: !x 1\n", "line 1, column 4: tags such as"),
    "merge key": ("a: &x {b: 1}\nc:\n  <<: *x\n", "line 3, column 3: merge keys (<<) are not part of YAML 1.2"),
    "recursive alias": ("a: &x [1, *x]\n", "line 1, column 11: there is no complete value with the anchor 'x'"),
    "recursive alias with an earlier anchor": ("b: &x 1\na: &x [*x]\n", "line 2, column 8: there is no complete value"),
    "unknown alias": ("a: *x\n", "line 1, column 4: there is no complete value with the anchor 'x'"),
    "key that is a list": ("? [1]\n: 2\n", "line 1, column 3: a key must be text"),
    "key that is an alias": ("a: &x b\n*x : 1\n", "line 2, column 1: a key must be text"),
    "second document": ("a: 1\n---\nb: 2\n", "line 2, column 1: a second document begins here"),
    "older version": ("%YAML 1.1\n---\na: 1\n", "line 1, column 1: the file declares another version of YAML than 1.2"),
    "deep": (f"a: {'[' * 40}{']' * 40}", "line 1, column 35: it is nested too deeply; at most 32 levels"),
    "very deep": (f"a: {'[' * 200_000}", "it is nested too deeply"),
    "very deep objects": ("{a: " * 200_000, "it is nested too deeply"),
    "very deep blocks": ("- " * 200_000, "it is nested too deeply"),
    "infinity": ("a: {lr: .inf}\n", "job.yaml: a.lr: must be a finite number"),
    "not a number": ("a: [1, .NaN]\n", "job.yaml: a.1: must be a finite number"),
    "beyond float64": ("a: 1e999\n", "job.yaml: a: must be a finite number"),
    "beyond 64 bits": ("a: 9223372036854775808\n", "job.yaml: a: must be an integer within 64 bits"),
    "many digits": (f"a: {'9' * 100_000}\n", "job.yaml: a: must be a finite number"),
    "many hexadecimal digits": (f"a: 0x{'f' * 100_000}\n", "job.yaml: a: must be a finite number"),
    "NUL": ('a: "\\0"\n', "job.yaml: a: must not contain the character NUL"),
    "half of a surrogate pair": ('a: "\\ud83d"\n', "job.yaml: a: must not contain half of a surrogate pair"),
    "control character": ("a: 1\nb: \x1b[2J\n", "line 2, column 4: the character '\\x1b' is not allowed in YAML"),
    "unfinished": ("a: [1\n", "line 2, column 1: "),
    "tab": ("a:\n\tb: 1\n", "line 2, column 1: "),
    "not UTF-8": (b"a: 1\nb: \xff\n", "job.yaml, line 2: the text is not UTF-8, at byte 8"),
    "UTF-16": ("a: 1\n".encode("utf-16"), "job.yaml, line 1: the text is not UTF-8, at byte 0"),
    "empty": ("", "job.yaml contains nothing, not an object with fields"),
    "comment": ("# nothing\n", "job.yaml contains nothing, not an object with fields"),
    "list": ("- a: 1\n", "job.yaml contains a list, not an object with fields"),
    "text": ("just text\n", "job.yaml contains a single value, not an object with fields"),
    "large": (b"#" * (LARGEST_FILE + 1), "job.yaml is larger than 4 MiB"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_yaml_file_must_not_contain(tmp_path: Path, case: str) -> None:
    text, words = WRONG[case]
    with pytest.raises(SpecFileError) as caught:
        read_spec(written(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG_JSON = {
    "duplicate key": (b'{"lr": 0.1, "lr": 0.7}', "the key 'lr' occurs twice"),
    "NaN": (b'{"a": NaN}', "a: must be a finite number"),
    "beyond 64 bits": (b'{"a": 9223372036854775808}', "a: must be an integer within 64 bits"),
    "many digits": (b'{"a": ' + b"9" * 100_000 + b"}", "a: must be a finite number"),
    "NUL": (b'{"a": "\\u0000"}', "a: must not contain the character NUL"),
    "deep": (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "nested too deeply"),
    "very deep": (b"[" * 50_000, "nested too deeply"),
    "many values": (b"[" + b"1," * 100_000 + b"1]", "has more than 100,000 values"),
    "invalid": (b'{"name": }', "Expecting value at line 1, column 10"),
    "not UTF-8": (b'{"a": "\xff"}', "the text is not UTF-8, at byte 7"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "the text is not UTF-8"),
    "YAML": (b"a: 1", "Expecting value at line 1, column 1"),
    "empty": (b"", "Expecting value at line 1, column 1"),
    "list": (b"[]", "contains a list, not an object with fields"),
}


@pytest.mark.parametrize("case", WRONG_JSON)
def test_a_json_file_is_as_strict_as_a_request(tmp_path: Path, case: str) -> None:
    text, words = WRONG_JSON[case]
    with pytest.raises(SpecFileError, match=r"^.*job\.JSON") as caught:
        read_spec(written(tmp_path, text, "job.JSON"))
    assert words in str(caught.value)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    for name in ("job.json", "job.yaml"):
        assert read_spec(written(tmp_path, b'\xef\xbb\xbf{"a": 1}', name)) == {"a": 1}


@pytest.mark.parametrize("leaf", ["x", "x" * 100_000])
def test_aliases_cannot_multiply_without_end(tmp_path: Path, leaf: str) -> None:
    """Nine levels of nine aliases are 387 million values in 1 KB."""
    lines = [f"a: &a [{leaf}]"]
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9)]
    with pytest.raises(SpecFileError, match=f"the aliases make the value larger than {LARGEST_VALUE:,} characters"):
        read_spec(written(tmp_path, "\n".join(lines)))
    repeated = read_spec(written(tmp_path, "\n".join(lines[:2])))
    assert repeated == {"a": [leaf], "b": [[leaf]] * 9}


def test_wrong_values_are_listed_up_to_a_number(tmp_path: Path) -> None:
    with pytest.raises(SpecFileError) as caught:
        read_spec(written(tmp_path, json.dumps({"a": [math.nan] * 1000}), "job.json"))
    assert len(caught.value.lines) == 20


@pytest.mark.parametrize("name", ["", "absent.yaml", "a\0b", "x" * 5000])
def test_what_is_not_a_readable_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecFileError, match="cannot be read: "):
        read_spec(tmp_path / name)


def test_a_spec_in_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"name: a\n")))
    assert read_spec(spec_file.Path("-")) == {"name": "a"}
    wrong = CliRunner().invoke(command_line, ["gradcheck", "-"], input="seed: 1\nseed: 2\n")
    assert (wrong.exit_code, wrong.stderr) == (
        1, "gradfleet: standard input, line 2, column 1: the key 'seed' occurs twice\n",
    )  # fmt: skip


@pytest.mark.parametrize("command", ["submit", "validate", "sweep", "gradcheck"])
def test_every_command_reads_files_by_these_rules(tmp_path: Path, command: str) -> None:
    for text, words in (("a: 1\na: 2\n", "occurs twice"), (f"a: {'[' * 5000}", "nested too deeply")):
        url = () if command == "gradcheck" else ("--url", "http://127.0.0.1:1")
        result = CliRunner().invoke(command_line, [command, str(written(tmp_path, text)), *url])
        assert result.exit_code == 1
        assert result.stderr.startswith("gradfleet: ")
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
