"""Bad rows are counted, reported and left out; when nothing is left, the run is refused."""

import json

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
        "left out 3 of 5 rows: 1 have no answer, 1 can't be graded by math_answer (broken gold), "
        "1 have prompts of more than max_prompt_length=100" in capsys.readouterr().out
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
            ["no row is left of 2", "2 can't be graded by math_answer (broken gold)"],
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


def test_a_broken_line_of_a_file_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{not json\n")
    with pytest.raises(ValueError, match=r"a\.jsonl' can't be read"):
        data.load(str(path))
