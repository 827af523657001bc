"""What the rewards pay for, cheats included."""

import os
import signal
import time

import pytest

import rewards
from rewards import _math_verify
from rewards._text import final_answer
from rewards.math_answer import number, quantity

math_answer, think_format, countdown = map(rewards.load, ("math_answer", "think_format", "countdown"))
GOOD = "<think>\nI add them.\n</think>\n<answer>\n5\n</answer>"


@pytest.mark.parametrize(
    "text, want",
    [
        (GOOD, 1.0),
        (f"\n{GOOD}\n", 1.0),
        ("<think>a</think><answer>5</answer>", 1.0),
        ("<think>some <b>bold</b> thoughts</think><answer>```\nx\n```</answer>", 1.0),
        (GOOD + " extra", 0.0),
        ("Sure! " + GOOD, 0.0),
        (GOOD * 2, 0.0),
        (GOOD.replace("</think>", "</think> so"), 0.0),
        (GOOD.replace("</think>", "</think></think>"), 0.0),
        ("<think>a<think>b</think></think><answer>5</answer>", 0.0),
        ("<answer>5</answer><think>a</think>", 0.0),
        ("<think>a<answer>5</answer></think>", 0.0),
        ("<think></think><answer>5</answer>", 0.0),
        ("<think>a</think><answer> \n</answer>", 0.0),
        ("<think>\u200b</think><answer>5</answer>", 0.0),
        ("<think>a</think><answer>5", 0.0),
        ("<Think>a</Think><Answer>5</Answer>", 0.0),
        ("<think >a</think><answer>5</answer>", 0.0),
        ("<think> reasoning process here </think> <answer> answer here </answer>", 0.0),
        ("5", 0.0),
        ("", 0.0),
    ],
)
def test_think_format(text, want):
    assert think_format([text]) == [want]
    assert think_format([[{"role": "assistant", "content": text}]], prompts=["ignored"]) == [want]


def test_think_format_after_a_prompt_that_ends_in_think():
    rest = GOOD.removeprefix("<think>")
    assert think_format([rest, GOOD], prefilled_think=True) == [1.0, 0.0]
    assert think_format([rest, GOOD], prefilled_think=[True, False]) == [1.0, 1.0]


def test_think_format_is_linear_in_length():
    start = time.perf_counter()
    assert think_format(["<think>" * 150_000, "<think>" + "a" * 1_000_000 + "</think><answer>5</answer>"]) == [0.0, 1.0]
    assert time.perf_counter() - start < 5  # quadratic would take hours


@pytest.mark.parametrize(
    "text, want",
    [
        (GOOD, "5"),
        ("<think>7</think><answer>The sum is \\boxed{5}.</answer>", "5"),
        ("<think>\\boxed{7}</think> It is \\boxed{5}", "5"),
        ("It is \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{5} or \\boxed{5}", "5"),
        ("<answer>5</answer> again: <answer> 5 </answer>", "5"),
        ("\\boxed{5} or \\boxed{6}", None),
        ("<answer>5</answer><answer>6</answer>", None),
        ("<answer>\\boxed{5} \\boxed{6}</answer>", None),
        ("<answer>5", None),
        ("<answer><answer>5</answer></answer>", None),
        ("\\boxed{5", None),
        ("\\boxed{}", None),
        ("<answer></answer>", None),
        ("<think> it is <answer>5</answer>", None),
        ("<think>it is \\boxed{5}</think>", None),
        ("the answer is 5", None),
        ("", None),
    ],
)
def test_final_answer(text, want):
    assert final_answer(text) == want


@pytest.mark.parametrize("piece", ["<answer>5</answer>", "\\boxed{5}", "<answer>", "</think>", "\\boxed{"])
def test_final_answer_is_linear_in_length(piece):
    start = time.perf_counter()
    assert final_answer(piece * (1_000_000 // len(piece))) in ("5", None)
    assert time.perf_counter() - start < 5  # quadratic takes minutes


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


def test_a_killed_worker_is_replaced():
    assert math_answer(["<answer>x+y</answer>"], answer=["y+x"]) == [1.0]
    os.kill(_math_verify._worker.pid, signal.SIGKILL)
    _math_verify._worker.wait()
    assert math_answer(["<answer>a+b</answer>"], answer=["b+a"]) == [1.0]


def test_the_worker_gets_no_secret(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a-secret")
    _math_verify._stop()
    assert math_answer(["<answer>p+q</answer>"], answer=["q+p"]) == [1.0]
    with open(f"/proc/{_math_verify._worker.pid}/environ") as file:
        assert "a-secret" not in file.read()


def test_numbers_are_exact():
    assert number(quantity("0.1")[0]) * 3 == number(quantity("0.3")[0])
    assert number(quantity("1/3")[0]) != number(quantity("0.3333333333333333333")[0])
    assert number(quantity("1267650600228229401496703205376")[0]) == 2**100


@pytest.mark.parametrize(
    "answer, want",
    [
        ("(1+2)*3", 1.0),
        ("3*(2+1) = 9", 1.0),
        ("$3 \\times (2 + 1)$", 1.0),
        ("3 × (2 + 1)", 1.0),
        ("9", 0.0),
        ("1+2*3", 0.0),
        ("3*3", 0.0),
        ("(1+2)*3*1", 0.0),
        ("(1+2)*3 = 10", 0.0),
        ("12-3", 0.0),
        ("1/(3-2-1)", 0.0),
        ("(1+2)**3", 0.0),
        ("__import__('os')", 0.0),
        ("(" * 5000, 0.0),
        ("", 0.0),
    ],
)
def test_countdown(answer, want):
    assert countdown([f"<think>so</think><answer>{answer}</answer>"], target=[9], nums=[[1, 2, 3]]) == [want]


def test_countdown_without_a_target_gives_none():
    assert countdown(["<answer>1</answer>"] * 2, target=[None, 1], nums=[[1], []]) == [None, None]


def test_an_unknown_reward_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'think_format'"):
        rewards.load("thinkformat")
    with pytest.raises(ValueError, match="countdown, math_answer, think_format"):
        rewards.load("_text")
