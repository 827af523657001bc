"""What the rewards pay for, cheats included."""

import time

import pytest

import rewards
from rewards._text import final_answer

think_format, countdown = map(rewards.load, ("think_format", "countdown"))
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
        *(
            (f"<think>a{blank}</think><answer>{blank}</answer>", 0.0)
            for blank in "\u2800\u3164\u115f\u1160\uffa0\u034f\ufe0f\u0301"
        ),
        ("<think>हिन्दी</think><answer>é</answer>", 1.0),
        ("<think>a</think><answer>5", 0.0),
        ("<Think>a</Think><Answer>5</Answer>", 0.0),
        ("<think >a</think><answer>5</answer>", 0.0),
        ("<think> reasoning process here </think> <answer> answer here </answer>", 0.0),
        ("<think>[your reasoning]</think><answer>5</answer>", 0.0),
        ("<think>{step-by-step thinking process}</think><answer>5</answer>", 0.0),
        ("<think>I reason [your reasoning] here</think><answer>5</answer>", 1.0),
        ("<think>a</think><answer>[Your final answer here]</answer>", 0.0),
        ("<think>...</think><answer>5</answer>", 0.0),
        ("<think>…\n---</think><answer>5</answer>", 0.0),
        ("<think>a</think><answer>(…)</answer>", 0.0),
        ("\ufeff" + GOOD, 1.0),
        ("\u200b\n" + GOOD + "\u200b", 1.0),
        ("\u200ba" + GOOD, 0.0),
        ("<think>Reasoning process here.</think><answer>5</answer>", 0.0),
        ("<think>a</think><answer>Answer here.</answer>", 0.0),
        ("5", 0.0),
        ("", 0.0),
    ],
)
def test_think_format(text, want):
    assert think_format([text]) == [want]
    assert think_format([[{"role": "assistant", "content": text}]], prompts=["ignored"]) == [want]


def test_messages_without_a_plain_text_content():
    parts = [{"type": "text", "text": GOOD[:20]}, {"type": "image"}, GOOD[20:]]
    turns = [parts, None, ""]
    assert think_format([[{"role": "assistant", "content": c}] for c in turns]) == [1.0, 0.0, 0.0]
    assert think_format([[{"role": "assistant"}], [{"content": GOOD}], []]) == [0.0, 0.0, 0.0]


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
        ("It is $\\boxed{5}$, or $\\boxed{6}$.", None),
        ("<answer>5</answer> or <answer>6</answer>", None),
        ("<answer>5</answer><answer>6</answer>", "6"),
        ("<answer>\\boxed{5} \\boxed{6}</answer>", "6"),
        ("\\boxed{5} is wrong, so \\boxed{6}", "6"),
        ("I answer in \\boxed{\\text{ }}: \\boxed{5}", "5"),
        ("\\boxed{5}, as asked for in \\boxed{}", "5"),
        ("\\boxed{5} fits 7 + \\boxed{\\phantom{00}} = 12", "5"),
        ("\\boxed{your answer} is \\boxed{5}", "5"),
        ("\\boxed{\\ \\quad} \\boxed{...} \\boxed{?} \\boxed{5}", "5"),
        ("\\boxed{ \\boxed{5}", "5"),
        ("\\boxed{\\}: \\boxed{5}", "5"),
        ("\\boxed{5} and so \\boxed{6", "5"),
        ("\\boxed{-}", None),
        ("\\fbox{5}", "5"),
        ("<answer>...</answer> <answer>5</answer>", "5"),
        ("<answer>your final answer here</answer><answer>5</answer>", "5"),
        ("<answer>5</answer> <answer>", "5"),
        ("<answer>5</answer><answer>---</answer>", "5"),
        ("<answer>5", None),
        ("<answer><answer>5</answer></answer>", "5"),
        ("<answer>\u200b \u3164</answer>", None),
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
    with pytest.raises(
        ValueError,
        match="countdown, language_consistency, math_answer, overlong, reasoning_gym, repetition_penalty, think_format",
    ):
        rewards.load("_text")


def test_options_are_set_when_a_reward_is_loaded():
    prefilled = rewards.load("think_format", prefilled_think=True)
    assert prefilled(["a</think><answer>5</answer>"]) == [1.0] and think_format(["a</think><answer>5</answer>"]) == [
        0.0
    ]
    assert prefilled.__name__ == "think_format"
    with pytest.raises(
        ValueError, match="'think_format' has no option 'prefiled_think': did you mean 'prefilled_think'"
    ):
        rewards.load("think_format", prefiled_think=True)
    with pytest.raises(ValueError, match="'math_answer' has no option 'answer': there are none"):
        rewards.load("math_answer", answer=["5"])
    with pytest.raises(ValueError, match="'overlong' has no option 'completion_ids'"):
        rewards.load("overlong", completion_ids=None)
    with pytest.raises(ValueError, match="binary='yes' isn't a bool"):
        rewards.load("code_tests", binary="yes")
