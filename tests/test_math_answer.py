"""What math_answer pays for: labelled cases, real golds, properties of random ones, and hostile input."""

import json
import os
import time
from pathlib import Path

import pytest

from rewards import _math_verify
from rewards.math_answer import math_answer

CASES = [json.loads(line) for line in Path(__file__).with_name("cases").joinpath("math_cases.jsonl").open()]
GOLDS = [json.loads(line) for line in Path(__file__).with_name("cases").joinpath("golds.jsonl").open()][1:]


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_labelled_case(case):
    for path in case.get("must_not_create", ()):
        assert not os.path.exists(path), "left by something else: remove it"
    assert math_answer([case["completion"]], answer=[case["gold"]]) == [float(case["expected"])], case["note"]
    assert not any(map(os.path.exists, case.get("must_not_create", ())))


@pytest.mark.parametrize(
    "gold, answer, want",
    [
        ("72", "72", 1.0),
        ("72", " 72. ", 1.0),
        ("72", "$72$", 1.0),
        ("72", "\\$72.00", 1.0),
        ("72", "72 dollars", 1.0),
        ("72", "072", 1.0),
        ("72", "**72**", 1.0),
        ("72", "7.2e1", 1.0),
        ("72", "x = 72", 1.0),
        ("72", "71", 0.0),
        ("72", "-72", 0.0),
        ("72", "72.1", 0.0),
        ("72", "7 2", 0.0),
        ("72", "72 73", 0.0),
        ("72", "70+3", 0.0),
        ("1234", "1,234", 1.0),
        ("1,234", "1234", 1.0),
        ("1234", "12,34", 0.0),
        ("1234", "1.234", 0.0),
        ("2024", "2024.1", 0.0),
        ("0.5", "1/2", 1.0),
        ("0.5", ".5", 1.0),
        ("\\frac{1}{2}", "\\dfrac12", 1.0),
        ("\\frac{5}{2}", "2\\frac{1}{2}", 1.0),
        ("\\frac{5}{2}", "2 1/2", 1.0),
        ("\\frac{1}{3}", "0.33", 0.0),
        ("50\\%", "0.5", 1.0),
        ("5", "500", 0.0),
        ("5 \\text{ cm}", "5", 1.0),
        ("3 \\text{ kg}", "3 \\text{ g}", 0.0),
        ("2x", "2", 0.0),
        ("2x", "x \\cdot 2", 1.0),
        ("3+4i", "4i+3", 1.0),
        ("2\\sqrt{2}", "\\sqrt{8}", 1.0),
        ("2\\sqrt{2}", "2", 0.0),
        ("16\\pi", "16", 0.0),
        ("-5", "−5", 1.0),
        ("52", "5²", 0.0),
    ],
)
def test_math_answer(gold, answer, want):
    assert math_answer([f"<think>so</think><answer>{answer}</answer>"], answer=[gold]) == [want]
    assert math_answer([f"<answer>\\boxed{{{answer}}}</answer>"], answer=[gold]) == [want]


def test_math_answer_takes_messages_and_ignores_other_columns():
    completions = [[{"role": "assistant", "content": "<answer>5</answer>"}], [{"role": "assistant", "content": "5"}]]
    assert math_answer(completions, answer=["5", "5"], prompts=["p", "p"], trainer_state=None) == [1.0, 0.0]


@pytest.mark.parametrize("gold", [None, "", "  ", "(", "\\frac{1}{"])
def test_broken_gold_gives_none_whatever_the_completion_says(gold):
    assert math_answer(["<answer>5</answer>", "", "<answer>(</answer>"], answer=[gold] * 3) == [None] * 3


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9^{9}}}}",
        "(10^{9})!",
        "1e999999999",
        "1/0",
        "\\frac{1}{0}",
        "9" * 20_000,
        "\\frac{1}{" * 60 + "2" + "}" * 60,
        "__import__('os').system('touch /tmp/r1_recipes_owned')",
        "\x00",
        "\ud800",
    ],
)
def test_hostile_answers_score_zero_and_end(answer):
    start = time.perf_counter()
    assert math_answer([f"<answer>{answer}</answer>"], answer=["5"]) == [0.0]
    assert time.perf_counter() - start < _math_verify.DEADLINE_S + 30  # with a new worker's start on a busy machine
    assert not os.path.exists("/tmp/r1_recipes_owned")
