"""`python -m data.inspect`: what it says of rows is so, of good ones and of broken ones."""

import json
import re

import pytest

from data import inspect

GOOD = {"question": "How many apples are left when 3 of 7 are eaten by the children?", "answer": "4"}
ROWS = [
    GOOD,
    GOOD | {"question": "Wie viele Äpfel bleiben übrig, wenn die Kinder drei von sieben essen?", "answer": "4"},
    GOOD | {"answer": "5"},
    GOOD | {"question": "What is 1 + 1?", "answer": "("},
    {"question": None, "answer": "4"},
    GOOD | {"question": "What is " + "1 + " * 400 + "1?", "answer": "401"},
]


def looked(capsys, tmp_path, *argv: str) -> str:
    inspect.main([*argv, "--plot", str(tmp_path / "lengths.png")])
    return capsys.readouterr().out


def jsonl(path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_is_said_of_rows_is_so(tmp_path, capsys):
    path = jsonl(tmp_path / "rows.jsonl", ROWS)
    held_out = jsonl(tmp_path / "test.jsonl", [{"question": GOOD["question"].upper(), "answer": "4"}])
    out = looked(capsys, tmp_path, path, "--against", held_out)
    for words in (
        "6, read as prompts with answers",
        "1 have no prompt: row 4",
        "math_answer: 5 of 6 can be graded (83.33%)",
        r"not row 3: answer='\('",
        "5 of 5 golds, dressed as a perfect completion, earn 1",
        "1 of 6 rows repeat an earlier one's prompt, 1 prompts with different answers",
        "en 40.0%, too short 40.0%, de 20.0%",
        "2 of 6 rows share 8 words in a row",
        "row 0 and its row 0: 'how many apples are left when 3 of'",
        "(it has no prompt)",
    ):
        assert re.search(words if "\\" in words else re.escape(words), out), words
    assert (tmp_path / "lengths.png").stat().st_size > 5000 and "see " in out


def test_prompts_are_those_that_the_model_sees(tmp_path, capsys):
    out = looked(
        capsys,
        tmp_path,
        *("arithmetic", "--dataset_options", "{digits: 1}", "--template", "plain"),
        *("--tokenizer", "recipes/configs/sft/tiny-base", "--examples", "2"),
    )
    assert "15 to 15 tokens" in out and len(re.findall(r"^What is \d \+ \d\?\n\n  answer = \d+$", out, re.M)) == 2
    assert "with test: 0 prompts are in both" in out
    said = looked(capsys, tmp_path, "preferences", "--split", "test", "--dataset_options", "{rows: 50}")
    assert {"prompt", "chosen", "rejected"} <= {line.split()[0] for line in said.splitlines() if line.strip()}
    mixture = looked(
        capsys, tmp_path, "[{name: arithmetic, weight: 1}, {name: countdown, weight: 1}]", "--examples", "1"
    )
    assert "a mixture of arithmetic: 50.0%" in mixture and "math_answer:" in mixture and "countdown:" in mixture


def test_hostile_rows_are_text(tmp_path, capsys):
    """Escapes of a terminal, marks that turn the direction, a megabyte in a line."""
    hostile = "\x1b[2J\x1b]0;mine\x07 a\u202eb\x9b31m \x00" + "x" * 1_000_000
    rows = [{"question": hostile, "answer": "\x1b[31m1", "level": "\x1b[8m"}, GOOD | {"level": "\x1b[8m"}]
    out = looked(capsys, tmp_path, jsonl(tmp_path / "rows.jsonl", rows))
    assert not set(out) & {"\x1b", "\x07", "\u202e", "\x9b", "\x00"} and r"\x1b[2J" in out and len(out) < 20_000


@pytest.mark.parametrize(
    "argv, words",
    [
        (["gsm9k"], "did you mean 'gsm8k'"),
        (["nowhere.jsonl"], "there is no such file"),
        (["gsm8k"], "openai/gsm8k.*can't be had from the hub.*path: <a .jsonl"),
        (["gsm8k", "--dataset_options", "{path: nowhere}"], "path='nowhere': there is no such file or folder"),
        (["arithmetic", "--rewards", "code_tests"], "'code_tests' needs the column 'tests'"),
        (["arithmetic", "--tokenizer", "nowhere/none"], "tokenizer='nowhere/none' can't be loaded"),
        (["arithmetic", "--template", "plain", "--dataset_options", "{digits: 0}"], "digits=0"),
        (["arithmetic", "--against", "gsm8k:dev"], "split 'dev' of dataset 'gsm8k' is unknown"),
    ],
)
def test_what_can_not_be_looked_at_is_one_line(capsys, tmp_path, argv, words):
    with pytest.raises(SystemExit) as ended:
        looked(capsys, tmp_path, *argv)
    error = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(error) == 1 and re.search(words, error[0]), error
