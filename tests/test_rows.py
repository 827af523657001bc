"""Bad rows are counted, reported and left out; when nothing is left, the run is refused."""

import json
import re

import pytest
from conftest import run_grpo

import data
import rewards
from recipes.shared import dataset_rows, model_loading

GOOD = {"question": "What is 1 + 1?", "answer": "It is two.\n#### 2"}
NO_GOLD = {"question": "What is 1 + 2?", "answer": "It is three."}
BROKEN_GOLD = {"question": "What is 1 + 3?", "answer": "#### ("}
LONG = {"question": "What is " + "1 + " * 50 + "1?", "answer": "#### 51"}


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def usable(path, tokenizer, limit=None):
    rows = data.load(path, "train", template="plain")
    return dataset_rows.usable_rows(rows, [rewards.load("math_answer"), rewards.load("think_format")], tokenizer, limit)


@pytest.fixture(scope="module")
def tokenizer():
    return model_loading.load_tokenizer("recipes/configs/sft/tiny-base")


def test_rows_that_cannot_be_used_are_counted_and_left_out(tmp_path, tokenizer, capsys):
    path = write(tmp_path / "a.jsonl", [GOOD, NO_GOLD, GOOD, BROKEN_GOLD, LONG])
    rows, counts = usable(path, tokenizer, limit=100)
    assert counts == {"rows": 5, "ungradable": 2, "too_long": 1}
    assert rows["answer"] == ["2", "2"]
    assert (
        "left out 3 of 5 rows: 1 have no answer (row 1), 1 can't be graded by math_answer (broken gold) (row 3), "
        "1 have prompts of more than max_prompt_length=100 tokens (row 4)" in capsys.readouterr().out
    )


def test_a_row_without_a_question_can_not_be_graded(tmp_path, tokenizer):
    _, counts = usable(write(tmp_path / "a.jsonl", [GOOD, {"question": None, "answer": "#### 2"}]), tokenizer)
    assert counts["ungradable"] == 1


def test_no_limit_leaves_long_prompts_in(tmp_path, tokenizer):
    assert usable(write(tmp_path / "a.jsonl", [GOOD, LONG]), tokenizer)[1]["too_long"] == 0


@pytest.mark.parametrize(
    "rows, words",
    [
        ([{"question": "What is 1 + 1?"}], ["'math_answer' needs the column 'answer'", "columns: {answer: <yours>}"]),
        ([{"target": 24, "numbers": [1]}], ["columns target, numbers", "which one is the prompt"]),
        ([], ["has no rows"]),
        (
            [GOOD | {"answer": "#### ("}, BROKEN_GOLD],
            ["no row is left of 2", "2 can't be graded by math_answer (broken gold) (rows 0, 1)"],
        ),
        ([LONG], ["no row is left of 1", "1 have prompts of more than max_prompt_length=100"]),
    ],
)
def test_a_dataset_with_nothing_to_train_on_is_refused(tmp_path, base, capsys, rows, words):
    path = write(tmp_path / "a.jsonl", rows)
    argv = ["--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", base, "--dataset", path]
    with pytest.raises(SystemExit) as ended:
        run_grpo(*argv, "--output_dir", str(tmp_path / "run"), "--max_prompt_length", "100")
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1
    assert all(word in lines[0] for word in words), lines[0]
    assert not (tmp_path / "run").exists()


BROKEN_LINES = {
    b"{not json": "a line that isn't JSON",
    b"[1, 2]": "a line that isn't a JSON object",
    b'{"question": "\xff\xfe", "answer": "#### 1"}': "a line that isn't UTF-8",
    b'{"question": "\\ud800 is half", "answer": "#### 1"}': "a line that isn't UTF-8",
    b'{"question": "q", "answer": "#### 1", "n": ' + b"9" * 5000 + b"x}": "a line that isn't JSON",
    b'{"question": "q", "question": "r", "answer": "#### 1"}': "a line that isn't JSON .a name stands twice",
    b'{"question": "q", "answer": "#### 1", "z": ' + b"[" * 3000 + b"]" * 3000 + b"}": "a line that isn't JSON",
    json.dumps(
        GOOD | {f"c{i}": {"d": [{"e": i}]} for i in range(1_000_000)}
    ).encode(): "a line of more than 2000 fields",
}


@pytest.mark.parametrize("line, reason", BROKEN_LINES.items(), ids=range(len(BROKEN_LINES)))
def test_a_broken_line_is_counted_with_its_row(tmp_path, tokenizer, capsys, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([json.dumps(GOOD).encode(), line, json.dumps(GOOD | {"n": 10**40}).encode()]) + b"\n")
    rows = data.load(str(path), template="plain")
    rows, counts = dataset_rows.usable_rows(rows, [rewards.load("math_answer")], tokenizer, None)
    assert (counts["rows"], counts["ungradable"], len(rows)) == (3, 1, 2)
    assert re.search(rf"left out 1 of 3 rows: 1 have {reason}.* \(row 1\)", capsys.readouterr().out)


MALFORMED_CELLS = [
    {"answer": "#### 1"},
    {"question": None, "answer": "#### 1"},
    {"question": "q"},
    {"question": "q", "answer": None},
    {"question": ["q"], "answer": "#### 1"},
    {"question": {"q": 1}, "answer": "#### 1"},
    {"question": "q", "answer": 1},
    {"question": "q", "answer": {"gold": ["#### 1"]}},
    {"question": "q", "answer": "#### " + "9" * 1_000_000},
    {"question": " ", "answer": "#### 1"},
]


def test_malformed_cells_are_counted_with_their_rows(tmp_path, tokenizer, capsys):
    path = write(tmp_path / "a.jsonl", [GOOD, *MALFORMED_CELLS, GOOD | {"question": "q\x00\u202e" * 300_000}])
    rows = data.load(path, template="plain")
    rows, counts = dataset_rows.usable_rows(rows, [rewards.load("math_answer")], tokenizer, 100_000)
    assert counts["rows"] == 12 and counts["ungradable"] == 10 and counts["too_long"] == 1 and len(rows) == 1
    said = capsys.readouterr().out
    assert "5 have no prompt (rows 1, 2, 5, 6, 10)" in said and "4 have no answer (rows 3, 4, 7, 8)" in said
    assert "1 can't be graded by math_answer (broken gold) (row 9)" in said and "tokens (row 11)" in said
