"""Reasoning Gym: which tasks are refused and why, rows that are the same for a seed, and a right answer to every task that is paid."""

import decimal
import json
import sys

import numpy
import pytest

import data
import rewards
from data import reasoning_gym as made
from rewards import reasoning_gym as graded

REFUSED = {task: why for why, tasks in made.REFUSED.items() for task in tasks.split()}
WORDS = {"task": "ab", "config": {}, "question": "q", "answer": "A# B#", "metadata": {}}
# answers that cost time, memory or the process in one scorer or another
HOSTILE = {
    "long": "9" * 4000,
    "longer": "9" * 4001,
    "exponent": "1e999999999",
    "tower": "9**9**9**9",
    "nan": "nan",
    "infinite": "-inf",
    "code": "__import__('os').abort()",
    "brackets": "[" * 2000 + "]" * 2000,
    "nested": '{"a":' + "[1," * 700 + "1" + "]" * 700 + "}",
    "flat": '{"a":[' + "1," * 1900 + "1]}",
    "turns": "R99999999 U99999999",
    "moves": "A+9999999999 B-9999999999",
    "letters": "∧".join("abcdefghijklmnopqrstuvwxyz"),
    "lines": "a\n" * 2000,
    "commas": "," * 4000,
    "screen": "\x1b[2J",
    "words": "I can't say, maybe True or 7",
}


def entry(**other) -> str:
    return json.dumps(WORDS | other)


def grade(answer: str, row: str, **options) -> float | None:
    return rewards.load("reasoning_gym", **options)([f"<think>so</think><answer>{answer}</answer>"], entry=[row])[0]


@pytest.fixture
def gym():
    return pytest.importorskip("reasoning_gym.factory", reason="pip install -e '.[gym]'")


@pytest.mark.parametrize("task", REFUSED)
def test_a_task_is_refused_with_its_reason_in_its_rows_and_in_its_reward(task):
    why = f"task='{task}' is refused: {REFUSED[task]}"
    for ask in (lambda: data.load("reasoning_gym", task=task), lambda: grade("x", entry(task=task))):
        with pytest.raises(ValueError) as said:
            ask()
        assert why in str(said.value)


def test_both_folders_refuse_the_same_tasks():
    assert made.REFUSED == graded.REFUSED and len(REFUSED) == 25


def test_without_the_package_the_way_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    graded.gradable.cache_clear()
    for ask in (lambda: data.load("reasoning_gym", task="ab"), lambda: grade("x", entry())):
        with pytest.raises(ValueError, match=r"needs its package .*: pip install -e '\.\[gym\]'"):
            ask()


@pytest.mark.parametrize("row", [None, "", "{", "[1]", "[" * 5000, json.dumps({"task": "ab"}), 3, {"task": "ab"}])
def test_an_entry_that_cannot_be_read_is_not_graded(row):
    assert grade("A# B#", row) is None


@pytest.mark.parametrize(
    "other",
    [
        {"task": "nowhere"},
        {"task": ["ab"]},
        {"answer": ""},
        {"answer": "..."},
        {"answer": ["A#"]},
        {"answer": "A#" * 3000},
        {"config": {"lenght": 3}},
        {"config": {"length": -3}},
        {"config": 3},
        {"task": "graph_color", "answer": None, "config": None},
        {"task": "word_ladder"},
        {"task": "polynomial_equations", "answer": ""},
    ],
)
def test_an_entry_whose_own_answer_is_not_paid_is_not_graded(gym, other):
    for answer in ("A# B#", "nothing", ""):
        assert grade(answer, entry(**other)) is None
    assert grade("A# B#", entry()) == 1.0 and grade("B# A#", entry()) == grade("", entry()) == 0.0


def test_of_every_task_its_own_answer_is_paid_and_no_other(gym):
    tasks, faults = sorted(set(gym.DATASETS) - set(REFUSED)), []
    assert len(tasks) == 81 and set(REFUSED) < set(gym.DATASETS)
    for task in tasks:
        rows = data.load("reasoning_gym", "test", task=task, rows=3, template=None)
        golds = [graded.perfect(row) for row in rows]
        if task == "graph_color":  # the one task of these whose rows name no answer
            own = [json.loads(row)["metadata"]["possible_answer"] for row in rows["entry"]]
            golds = [graded.dressed(json.dumps(colours)) for colours in own]
        reward = rewards.load("reasoning_gym")
        if reward(golds, entry=rows["entry"]) != [1.0] * 3:
            faults.append((task, golds))
        for gold, row in zip(golds[1:] + golds[:1], rows, strict=True):
            if reward([gold], entry=[row["entry"]]) != [0.0] and row["answer"] not in (None, *rows["answer"]):
                faults.append((task, gold, row["answer"]))
        for answer in HOSTILE.values():
            if sum(found := [grade(answer, row) for row in rows["entry"]]):
                faults.append((task, answer[:40], found))
    assert not faults


def test_rows_are_the_same_for_a_seed_and_no_question_is_in_both_splits(gym):
    first, again, other = (data.load("reasoning_gym", task="leg_counting", rows=40, seed=s) for s in (3, 3, 4))
    assert first.to_list() == again.to_list() and not set(first["entry"]) & set(other["entry"])
    train, test = (
        data.load("reasoning_gym", s, task="string_splitting", rows=80, template="plain") for s in made.SPLITS
    )
    assert len(set(train["prompt"])) == len(set(test["prompt"])) == 80
    assert not set(train["prompt"]) & set(test["prompt"])
    assert train.column_names == ["prompt", "answer", "task", "entry"] and train[0]["task"] == "string_splitting"


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "task='' is unknown: there are ab, acre, "),
        ({"task": "leg_count"}, "did you mean 'leg_counting'"),
        (
            {"task": "leg_counting", "task_config": {"max_animal": 3}},
            "unexpected keyword argument 'max_animal'; there are min_animals",
        ),
        (
            {"task": "leg_counting", "task_config": {"max_animals": 1}},
            "task_config={'max_animals': 1} of task 'leg_counting': ",
        ),
        ({"task": "leg_counting", "task_config": {"seed": 1}}, "multiple values for keyword argument 'seed'"),
        ({"task": "leg_counting", "seed": None}, "seed=None must be a whole number"),
        ({"task": "leg_counting", "rows": 0}, "rows=0 at least 1"),
        ({"task": "tower_of_hanoi"}, "no more than 42 questions of split 'train' with task='tower_of_hanoi'"),
    ],
)
def test_what_cannot_be_made_is_refused(gym, options, said):
    with pytest.raises(ValueError) as refused:
        data.load("reasoning_gym", **options)
    assert said in str(refused.value)


def test_a_scorer_has_the_config_that_its_row_was_made_with(gym):
    config = {"min_word_length": 3, "max_word_length": 3}
    row = data.load("reasoning_gym", task="word_ladder", rows=1, task_config=config)[0]
    raw = json.loads(row["entry"])
    assert raw["config"] == config and grade(row["answer"], row["entry"]) == 1.0
    assert grade(row["answer"], json.dumps(raw | {"config": {}})) is None


def test_what_is_near_is_paid_only_where_that_is_asked_for(gym):
    near, row = data.load("reasoning_gym", task="game_of_life", rows=2)
    assert grade(near["answer"], row["entry"]) == 0.0 and 0.5 < grade(near["answer"], row["entry"], binary=False) < 1
    days = {"task": "calendar_arithmetic", "answer": "-1", "metadata": {"task": "count_days"}}
    assert grade("-1", entry(**days)) == 1.0
    assert grade("7", entry(**days), binary=False) == 0.0, "the scorer gives more than 1"


def test_nothing_of_the_process_is_changed_and_nothing_is_printed(gym, capsys):
    before = decimal.getcontext().prec, numpy.random.get_state()[1].tolist()
    for task in ("pool_matrix", "decimal_arithmetic", "tower_of_hanoi"):
        row = data.load("reasoning_gym", task=task, rows=2)[0]
        for answer in (row["answer"], "Move disk 1 from Peg 9 to Peg 8", "[]"):
            assert grade(answer, row["entry"]) == (answer == row["answer"])
    assert before == (decimal.getcontext().prec, numpy.random.get_state()[1].tolist())
    assert capsys.readouterr() == ("", "")
