"""Sums told in words: the gold is what the words say, by a reader of their own, and the splits share nothing."""

import json
import re

import pytest

import data
import rewards
from data import word_sums

GAINS = {"buys", "finds", "gets", "wins", "collects", "receives"}
LOSSES = {"loses", "sells", "gives away", "drops", "donates", "throws away"}
QUESTION = re.compile(r"(\w+) has (\d+) (\w+)\. (She|He) (.+)\. How many (\w+) does (\w+) have now\?")


def read(question: str) -> list[int]:
    """What there is at first and each gain or loss, signed, from the words alone."""
    name, start, thing, _, told, thing_again, name_again = QUESTION.fullmatch(question).groups()
    assert (name, thing) == (name_again, thing_again)
    numbers = [int(start)]
    for step in re.split(r", | and ", told):
        verb, n = re.fullmatch(r"([a-z ]+) (\d+)", step).groups()
        assert (verb in GAINS) != (verb in LOSSES), verb
        numbers.append(int(n) if verb in GAINS else -int(n))
    return numbers


def questions(rows) -> list[str]:
    assert all(len(prompt) == 1 and prompt[0]["role"] == "user" for prompt in rows["prompt"])
    return [prompt[0]["content"] for prompt in rows["prompt"]]


def test_the_reader_reads():
    told = "Tom has 12 stamps. He finds 25, gives away 8 and buys 31. How many stamps does Tom have now?"
    assert read(told) == [12, 25, -8, 31]
    assert read("Mia has 2 books. She throws away 1. How many books does Mia have now?") == [2, -1]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("steps, largest", [(1, 50), (2, 10), (3, 50), (6, 4), (3, 1000)])
def test_the_gold_is_the_sum_told_and_nothing_is_ever_owed(split, steps, largest):
    rows = data.load("word_sums", split, template=None, steps=steps, largest=largest, rows=300, seed=steps)
    assert len(rows) == len(set(questions(rows))) == 300
    both = set()
    for question, gold in zip(questions(rows), rows["answer"], strict=True):
        numbers = read(question)
        assert gold == str(sum(numbers)) and len(numbers) == 1 + steps
        assert all(sum(numbers[: n + 1]) >= 0 for n in range(len(numbers))), question
        assert all(1 <= abs(n) <= largest for n in numbers), question
        both |= {n > 0 for n in numbers[1:]}
    assert both == {True, False}, "gains and losses"


def test_train_and_test_share_no_sum_whatever_the_seed_and_no_sum_comes_twice():
    sums = {}
    for split in ("train", "test"):
        for seed in (0, 1, 2):
            rows = data.load("word_sums", split, template=None, steps=1, largest=50, rows=300, seed=seed)
            found = [tuple(read(question)) for question in questions(rows)]
            assert len(set(found)) == len(found), "rows are distinct by their numbers, not their words"
            sums.setdefault(split, set()).update(found)
    assert len(sums["train"]) > 500 and not sums["train"] & sums["test"]


def test_about_as_many_are_held_out_as_is_said():
    """Of all the sums of one step: 49 starts, and with each some gains and losses."""
    sums = [(start, n) for start in range(2, 51) for n in range(1 - start, 51) if n]
    held_out = sum(word_sums.split_of(s) == "test" for s in sums) / len(sums)
    assert held_out == pytest.approx(word_sums.TEST_SHARE, abs=0.02)


def test_the_same_seed_makes_the_same_rows_worked_or_not():
    def rows(split="train", **options):
        return data.load("word_sums", split, template=None, rows=50, **options).to_list()

    assert rows(seed=3) == rows(seed=3) != rows(seed=4)
    worked = rows(seed=3, worked=True)
    assert [{k: v for k, v in row.items() if k != "completion"} for row in worked] == rows(seed=3)
    first = data.load("word_sums", template=None, rows=20, seed=3).to_list()
    assert first == rows(seed=3)[:20], "the first so many of more are the same"


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_what_is_worked_is_right_well_formed_and_true_in_every_line(steps):
    rows = data.load("word_sums", template=None, steps=steps, rows=200, worked=True)
    texts = [completion[0]["content"] for completion in rows["completion"]]
    assert set(rewards.load("math_answer")(texts, answer=rows["answer"])) == {1.0}
    assert set(rewards.load("think_format")(texts)) == {1.0}
    for question, text, gold in zip(questions(rows), texts, rows["answer"], strict=True):
        thoughts, answer = re.fullmatch(r"<think>(.+)</think><answer>(\d+)</answer>", text).groups()
        have, *signed = read(question)
        for line, n in zip(thoughts.split(", "), signed, strict=True):
            left, step, right = map(int, re.fullmatch(r"(\d+)([+-]\d+)=(\d+)", line).groups())
            assert left == have and step == n and left + step == right, line
            have = right
        assert answer == gold == str(have)


def test_demonstrations_are_for_sft_as_they_are():
    row = data.load("word_sums", rows=1, template="plain", worked=True)[0]
    assert set(row) == {"prompt", "completion", "answer"} and row["prompt"].endswith("have now?\n")
    assert row["completion"].startswith("<think>")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"steps": 0}, ["steps=0", "at least 1"]),
        ({"rows": 0}, ["rows=0", "at least 1"]),
        ({"rows": -1}, ["rows=-1"]),
        ({"largest": 1}, ["largest=1", "at least 2"]),
        ({"steps": 1, "largest": 2, "rows": 50}, ["rows=50", "train", "raise largest or steps"]),
        ({"step": 3}, ["no option 'step'", "'steps'"]),
        ({"split": "tests"}, ["split 'tests'", "'test'"]),
    ],
)
def test_what_can_not_be_made_is_refused(options, words):
    split = options.pop("split", "train")
    with pytest.raises(ValueError) as refused:
        data.load("word_sums", split, template=None, **options)
    assert all(word in str(refused.value) for word in words), refused.value


def test_samples_that_keep_the_gold_of_countdown_are_demonstrations_and_no_countdown(tmp_path):
    row = {"prompt": [{"role": "user", "content": "Reach 3."}], "target": 3, "nums": [1, 2]}
    row["completion"] = [{"role": "assistant", "content": "<think>1+2</think><answer>1+2</answer>"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    loaded = data.load(str(tmp_path / "rows.jsonl"), template="plain")
    assert loaded[0]["completion"] == row["completion"][0]["content"] and loaded[0]["target"] == 3
