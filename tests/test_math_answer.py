"""What math_answer pays for: labelled cases, real golds, random equal and unequal pairs, hostile input."""

import json
import math
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards._math import reading
from rewards.math_answer import MAX_ANSWER, compare, judge, math_answer, readable

CASES, GOLDS, PAIRS = (
    [json.loads(line) for line in Path(__file__).with_name("cases").joinpath(f"{name}.jsonl").open()]
    for name in ("math_cases", "golds", "math_pairs")
)
GOLDS = [row["gold"] for row in GOLDS[1:]]  # the first line names their sources
random_ones = settings(derandomize=True, deadline=None, max_examples=150, database=None)


def verdict(gold, answer):
    return judge([f"<think>so</think><answer>{answer}</answer>"], [gold])[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_labelled_case(case):
    made = case.get("must_not_create", ())
    for path in made:
        assert not os.path.exists(path), f"{path} was left by something else: remove it"
    start = time.perf_counter()
    score = math_answer([case["completion"]], answer=[case["gold"]])
    assert score == [float(case["expected"])]
    assert time.perf_counter() - start < 3
    assert not any(map(os.path.exists, made))


def test_real_golds_score_one_in_every_form_and_the_next_one_zero():
    equal = {("5", "x=5")}  # one row after the other in MATH-500
    for gold, following in zip(GOLDS, GOLDS[1:] + GOLDS[:1], strict=True):
        forms = [f"\\boxed{{{gold}}}", f"<answer>{gold}</answer>", f"<answer>\\boxed{{{gold}}}</answer>"]
        assert math_answer(forms, answer=[gold] * 3) == [1.0] * 3
        if following != gold and (gold, following) not in equal:
            assert math_answer([f"<answer>{following}</answer>"], answer=[gold]) == [0.0], (gold, following)


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: ascii(row["gold"])[1:30])
def test_pairs(row):
    """Spellings and near misses of every kind of answer; a gold is also equal to itself."""
    for kind, want in (("equal", 1.0), ("different", 0.0)):
        for answer in row.get(kind, ()):
            for text in (f"<answer>{answer}</answer>", f"<answer>\\boxed{{{answer}}}</answer>"):
                assert judge([text], [row["gold"]])[0].score == want, (text, judge([text], [row["gold"]]))
    assert verdict(row["gold"], row["gold"]).score == 1.0


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


def test_a_gold_of_whole_numbers_is_text():
    assert math_answer(["\\boxed{5}", "\\boxed{6}"], answer=[5, 5]) == [1.0, 0.0]


@pytest.mark.parametrize("gold", [None, "", "  ", "(", "\\frac{1}{", 5.0, math.nan, ["5"], {"a": 5}, True])
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
        "5 ①/2",
        "٥",
    ],
)
def test_hostile_answers_score_zero_and_end(answer):
    start = time.perf_counter()
    assert math_answer([f"<answer>{answer}</answer>"], answer=["5"]) == [0.0]
    assert time.perf_counter() - start < 3
    assert not os.path.exists("/tmp/r1_recipes_owned")


@pytest.mark.parametrize(
    "answer",
    [
        "(x+y+z+w+1)^{60}",
        "((((x+1)^{9})^{9})^{9})^{9}",
        "(\\sqrt2+\\sqrt3+\\sqrt5+\\sqrt7+\\sqrt{11}+\\sqrt{13})^{40}",
        "+".join(["2004!"] * 90),
        "+".join(f"\\frac{{1}}{{x+{i}}}" for i in range(60)),
        "\\{" + ",".join(["(a+b+c+d)^{12}"] * 60) + "\\}",
        "+".join(f"\\sqrt{{{10**11 + i}}}" for i in range(60)),
        "\\sqrt{" * 35 + "2" + "}" * 35,
        "\\sum_{k=1}^{10^{9}} k",
        "\\int_0^1 x^x dx",
        "\\sin^{50}(x)+i\\cos^{50}(x+1)",
        "{" * 999,
        "\\text{" * 150 + "}" * 150,
        "1e999999",
        "0.\\overline{" + "3" * 390 + "}",
        ",".join("1" for _ in range(490)),
    ],
)
@pytest.mark.parametrize("gold", ["5", "x^2+1", "\\{1,2\\}", "\\sin 1+i"])
def test_costly_answers_are_refused_or_decided_soon(gold, answer):
    start = time.perf_counter()
    assert verdict(gold, answer).score == 0.0
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    "gold, answer, want",
    [
        ("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}", 1.0),
        ("\\sqrt{3+2\\sqrt{2}}", "2+\\sqrt{2}", 0.0),
        ("e^{\\pi\\sqrt{163}}", "262537412640768744", 0.0),  # they share 30 digits
        ("\\sin 1", "0.84147098480789650665", 0.0),
        ("\\cos^2 x", "1-\\sin^2 x", 1.0),
        ("\\cosh x", "\\frac{e^x+e^{-x}}{2}", 1.0),
        ("\\ln|x|", "\\ln x", 0.0),  # without a value for x < 0
        ("|x|", "x", 0.0),
        ("|x|", "\\sqrt{x^2}", 1.0),
        ("\\frac{1}{\\sqrt{n}}", "\\sqrt{1/n}", 1.0),
        ("(-1)^n", "\\cos(n\\pi)", 1.0),  # n may be an integer: at fractions one side has no value
        ("n", "\\lfloor n \\rfloor", 0.0),
        ("\\binom{n}{2}", "\\frac{n(n-1)}{2}", 1.0),
        ("\\sqrt{-4}", "2i", 1.0),
        ("\\sqrt[3]{-8}", "-2", 1.0),
        ("e^{i\\pi/3}", "\\frac{1+i\\sqrt3}{2}", 1.0),
        ("\\operatorname{cis} 60^\\circ", "\\frac{1+i\\sqrt3}{2}", 1.0),
        ("2^{-99}", "2^{-98}", 0.0),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}", 0.0),
        ("5", "5\\frac{x-x}{x-x}", 0.0),
        ("5", "5\\frac{\\sinh^2 x-\\cosh^2 x+1}{\\sinh^2 x-\\cosh^2 x+1}", 0.0),
        ("xy=6", "y=\\frac{6}{x}", 1.0),
        ("y=2x+1", "2x-y+1=0", 1.0),
        ("y=2x+1", "y=2x+2", 0.0),
        ("\\mathbb{R}\\setminus\\{1,2\\}", "(-\\infty,1)\\cup(1,2)\\cup(2,\\infty)", 1.0),
        ("\\mathbb{R}\\setminus[\\sqrt2,2)", "x<\\sqrt2 \\text{ or } x\\ge 2", 1.0),
        ("\\mathbb{R}\\setminus[\\sqrt2,2)", "x<\\sqrt2 \\text{ or } x> 2", 0.0),
    ],
)
def test_closed_forms_are_compared_by_value(gold, answer, want):
    assert verdict(gold, answer).score == want


WRONG = {
    "a code is no product": [("0x2f1", "0x2e1"), ("1C0", "2D0"), ("A0", "B0"), ("3F", "F3"), ("0", "0xFF")],
    "a power behind a function": [("8", "sin(5*x-8)**4"), ("7", "\\pm 3 \\pm 7"), ("12", "cos(x)**2 = 12")],
    "no value": [("4", "4 4/0"), ("7", "7 + 0/0"), ("1", "0^0"), ("3", "3 \\frac{1}{0}")],
    "no end": [("1,2,3", "1,2,3,..."), ("5", "5..."), ("0.33", "0.33\\ldots"), ("1,2", "1, 2, \\dots")],
    "words that multiply": [("5", f"5 {w}") for w in ("lakh", "gross", "pairs", "dozen", "score", "bn", "couples", "crores")],
    "words that compare": [("5", f"5 {w}") for w in ("more", "less", "fewer", "below", "off", "apples short", "years ago")],
    "words that deny or doubt": [("5", f"5 {w}") for w in ("is wrong", "maybe", "or so", "ish", "unless x", "unknown")],
    "words that calculate": [("5", f"5 {w}") for w in ("squared", "factorial", "modulo 7", "tenths", "and a half", "inverse")],
    "in front": [("5", f"{w} 5") for w in ("not", "more than", "at least", "negative", "square root of", "half of", "over")],
    "in a sentence": [
        ("14", "More than 14 marbles are left."), ("14", "She does not have 14 marbles."), ("6", "From 20 she gives 6 away."),
        ("5", "It is 5, no, 6."), ("5", "The answer is 5 times 2."), ("72", "48 in April and 24 in May make 72."),
    ],
    "two options": [("C", "(B) or (C)"), ("C", "(A) 15, (C) 16"), ("C", "B. C"), ("7", "\\boxed{5} or \\boxed{7}")],
    "an equation without a value": [("5", "2x=5"), ("4", "3=4"), ("6", "xy=6 or 7"), ("5", "x \\ne 5"), ("5", "x>5")],
    "another label": [("(x,y)=(1,2)", "y=1, x=2"), ("x+y=6", "6"), ("AB=5", "CD=5")],
    "another rounding": [("78.5", "about 78.4"), ("85.71", "\\frac{600}{7}"), ("5", "5 \\approx 6")],
    "another chain": [("b<a<d<c", "c<d<a<b"), ("b<a<d<c", "b,a,d,c")],
    "another word": [("yes", "not yes"), ("\\text{Sunday}", "Monday or Sunday"), ("converges", "does not converge")],
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_only_looks_right_is_not_paid(kind):
    for gold, answer in WRONG[kind]:
        assert verdict(gold, answer).score == 0.0, (gold, answer, verdict(gold, answer))


RIGHT = {
    "a sentence with one value": [
        ("14", "She has 14 marbles left."), ("5", "So, x = 5."), ("5", "**Answer:** $5$"), ("9", "The answer is that he has 9 stamps."),
        ("60", "The area of the garden is 60 square meters."), ("72", "The final result: **72** cards"), ("3", "Number of ways: 3"),
        ("72", "48/2 = 24\n48 + 24 = 72"), ("72", "Step 1: 48/2=24. Step 2: 24+48=72. So the answer is 72."), ("5", "<b>5</b>"),
        ("72", "72 cards in May and June"), ("7", "the 7th grade"), ("15", "Day 15"), ("1", "1st"), ("$12.50", "US$12.50 per hour"),
    ],
    "a label": [
        ("3k^2", f"{name}=3k^2") for name in ("V(t)", "f^{-1}(x)", "\\phi(x)", "r(\\theta)", "C(n)", "\\text{Area}")
    ] + [
        ("5", f"{name}=5") for name in ("AB", "x=y", "m+n", "\\frac{a}{b}", "P(X=3)", "|A \\cup B|", "\\text{lcm}(2,3)", "\\sin A")
    ] + [("(m,b)=(3,-4)", "m=3, b=-4"), ("(5,2)", "n=5, k=2"), ("\\sin A=\\frac35", "0.6")],
    "an option": [("B", "Option (B)"), ("C", "(C) 15"), ("C", "C. fifteen"), ("B", "B: 12"), ("A", "\\text{(A)}")],
    "units": [
        ("12", "12 units squared"), ("20", "20°C"), ("5", "5 \\text{ m}^{2}/s"), ("18", "Rs. 18"), ("3", "3 times"), ("9 (apples)", "9"),
        ("500000", "5 lakh"), ("144", "1 gross"), ("5", "5 people"), ("1", "1 apple"), ("63^{\\circ} 45^{\\prime}", "63°45'"),
    ],
    "TeX": [
        ("\\frac{5\\sqrt3}{4}", "{5\\sqrt{3} \\over 4}"), ("120", "{10 \\choose 3}"), ("(2,4]", "\\left\\{x \\middle| 2<x\\le 4\\right\\}"),
        ("5", "5 \\checkmark"), ("5", "\\phantom{0}5"), ("\\frac12", "\\begin{aligned}\\frac12\\end{aligned}"), ("11:00", "11\\text{:}00"),
        ("30^{\\text{o}}", "30^\\circ"), ("7", "7^{\\mathrm{th}}"), ("9", "\\\\boxed{9}"), ("9", "boxed{9}"),
    ],
    "roundings": [
        ("78.5", "≈ 78.5"), ("78.5", "about 78.5"), ("x \\approx 7.18", "7.18"), ("\\frac{100}{3} \\approx 33.33\\%", "33.33\\%"),
        ("\\frac13", "0.333..."), ("\\frac16", "0.1666\\ldots"),
    ],
    "other scripts": [("5", "答案是5。"), ("5", "答案：5"), ("1,2", "1、2"), ("(1,2)", "（1，2）"), ("5", "5 ✓"), ("5", "• 5")],
    "structures": [
        ("(1,2)", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"), ("\\langle 1,2\\rangle", "(1,2)"), ("1,2,3", "[1, 2, 3]"), ("1,2,3", "1, 2 & 3"),
        ("5,7", "(a) 5, (b) 7"), ("5,12", "\\text{Ann: }5, \\text{Bo: }12"), ("2, 3", "Both 2 and 3"), ("(1,2),(-1,-2)", "\\pm(1,2)"),
        ("(-\\infty,2)\\cup(3,\\infty)", "(-\\infty,2),(3,\\infty)"), ("(0,1)", "]0,1["), ("a\\le -2 \\text{ or } a=1", "(-\\infty,-2]\\cup\\{1\\}"),
        ("f(x)=x+1", "f(x)=x+1, x\\in\\mathbb{R}"), ("b<a<d<c", "c>d>a>b"), ("\\frac12", "\\frac12 \\text{ or } 50\\%"),
    ],
    "words": [
        ("\\text{no solution}", "There is no solution."), ("\\text{no solution}", "\\emptyset"), ("\\text{all real numbers}", "\\mathbb{R}"),
        ("\\text{Sunday}", "It is a Sunday."), ("Yes", "Yes, because 3 is odd."), ("\\text{infinitely many}", "Infinitely many solutions"),
    ],
    "programs": [
        ("\\frac{\\sin^4(5x-8)}{4}+C", "sin(5*x - 8)**4/4 + C"), ("e^x\\sin^2 x", "exp(x)*sin(x)**2"), ("\\ln|x|+C", "log(abs(x)) + C"),
        ("\\log_2 3", "log2(3)"), ("0x2f1", "0x2F1"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", RIGHT)
def test_right_answers_as_models_write_them(kind):
    for gold, answer in RIGHT[kind]:
        assert verdict(gold, answer).score == 1.0, (gold, answer, verdict(gold, answer))


@pytest.mark.parametrize("gold", ["\tan x=2", "3 \text{ cm}", "\x0crac12", "a\neq b", "90^\text{o}", "\rho"])
def test_a_gold_that_an_escape_has_damaged_is_ungradable(gold):
    assert verdict(gold, gold).score is None and verdict(gold, "5").score is None


# --- random pairs that are equal or unequal by construction


def spellings(value: Fraction, r: random.Random) -> str:
    """One of the ways to write a rational number."""
    sign, n, d = "-" * (value < 0), abs(value.numerator), value.denominator
    k = r.randint(2, 9)
    ways = [
        f"\\frac{{{sign}{n}}}{{{d}}}",
        f"{sign}{n}/{d}",
        f"{sign}\\dfrac{{{n * k}}}{{{d * k}}}",
        f"\\frac{{{n}}}{{{sign}{d}}}",
    ]
    ways.append(f"{sign}({n} \\div {d})")
    if n > d > 1:
        ways += [f"{sign}{n // d}\\frac{{{n % d}}}{{{d}}}", f"{sign}{n // d} {n % d}/{d}"]
    if d == 1:
        ways += [
            f"{sign}{n}",
            f"{sign}{n:,}",
            f"{sign}{n}.0",
            f"${sign}{n}$",
            f"x = {sign}{n}",
            f"{sign}{n:,}".replace(",", "\\,"),
        ]
        ways += [f"{sign}{n - k} + {k}"] if not sign and n > k else []
    twos, fives = ((d & -d).bit_length() - 1), 0
    while d % 5 ** (fives + 1) == 0:
        fives += 1
    if d == 2**twos * 5**fives:
        places = max(twos, fives, 1)
        digits = str(n * 10**places // d).zfill(places + 1)
        ways += [
            f"{sign}{digits[:-places]}.{digits[-places:]}",
            f"{sign}{digits} \\times 10^{{-{places}}}",
            f"{sign}{digits}e-{places}",
        ]
        ways.append(f"{sign}{digits[:-places]}.{digits[-places:]}00")
    elif math.gcd(d, 10) == 1:
        period = next(p for p in range(1, d + 1) if (10**p - 1) % d == 0)
        if period < 200:
            block = str(n % d * (10**period - 1) // d).zfill(period)
            ways.append(f"{sign}{n // d}.\\overline{{{block}}}")
    return r.choice(ways)


rationals = st.fractions(min_value=-5000, max_value=5000, max_denominator=60)


@random_ones
@given(rationals, rationals, st.randoms(use_true_random=False))
def test_rationals_agree_exactly_when_they_are_equal(a, b, r):
    one, other = spellings(a, r), spellings(a, r)
    assert verdict(one, other).score == verdict(other, one).score == 1.0, (one, other)
    other = spellings(b, r)
    assert verdict(one, other).score == verdict(other, one).score == float(a == b), (one, other)


class Number:
    """Random closed forms: LaTeX, rewritten LaTeX, and a float for the truth, all of the same value."""

    def __init__(self, latex: str, rewritten: str, value: complex):
        self.latex, self.rewritten, self.value = latex, rewritten, value

    def __repr__(self):
        return f"{self.latex} ~ {self.rewritten}"


def leaves():
    whole = st.integers(1, 12).map(lambda n: Number(str(n), f"\\frac{{{2 * n}}}{{2}}", n))
    root = st.integers(2, 30).map(lambda n: Number(f"\\sqrt{{{n}}}", f"\\frac{{{n}}}{{\\sqrt{{{n}}}}}", n**0.5))
    cube = st.integers(2, 9).map(lambda n: Number(f"\\sqrt[3]{{{n}}}", f"{n}^{{1/3}}", n ** (1 / 3)))
    letter = st.sampled_from([("x", 1.37), ("y", 0.61), ("\\pi", math.pi), ("i", 1j)])
    return st.one_of(whole, root, cube, letter.map(lambda v: Number(v[0], f"(1 \\cdot {v[0]})", v[1])))


def grown(smaller):
    def add(p):
        a, b = p
        return Number(f"{a.latex}+{b.latex}", f"{b.rewritten}+{a.rewritten}", a.value + b.value)

    def subtract(p):
        a, b = p
        return Number(f"{a.latex}-({b.latex})", f"-({b.rewritten})+{a.rewritten}", a.value - b.value)

    def times(p):
        a, b, c = p
        expanded = f"({a.rewritten})({c.rewritten})+({b.rewritten})({c.rewritten})"
        return Number(f"({a.latex}+{b.latex})({c.latex})", expanded, (a.value + b.value) * c.value)

    def over(p):
        a, n = p
        return Number(
            f"\\frac{{{a.latex}}}{{{n}+\\sqrt{{2}}}}",
            f"\\frac{{({n}-\\sqrt{{2}})({a.rewritten})}}{{{n * n - 2}}}",
            a.value / (n + 2**0.5),
        )

    def square(a):
        return Number(f"({a.latex})^2", f"({a.rewritten})({a.rewritten})", a.value**2)

    return st.one_of(
        st.tuples(smaller, smaller).map(add),
        st.tuples(smaller, smaller).map(subtract),
        st.tuples(smaller, smaller, smaller).map(times),
        st.tuples(smaller, st.integers(2, 9)).map(over),
        smaller.map(square),
    )


numbers = st.recursive(leaves(), grown, max_leaves=5).filter(lambda n: len(n.latex) < 150 and len(n.rewritten) < 400)


@random_ones
@given(numbers)
def test_rewritten_expressions_are_equal(number):
    assert verdict(number.latex, number.rewritten)[:2] in ((1.0, "numeric"), (1.0, "exact")), number
    assert verdict(number.rewritten, number.latex).score == 1.0, number


@random_ones
@given(numbers, numbers)
def test_expressions_of_different_value_differ(a, b):
    scale = max(1.0, abs(a.value), abs(b.value))
    got = verdict(a.latex, b.latex)
    if abs(a.value - b.value) > 1e-6 * scale:
        assert got.score == verdict(b.latex, a.latex).score == 0.0, (a, b, got)
    elif got.score == 0.0:  # different forms may meet at one point, but hardly twice
        assert abs(a.value - b.value) > 1e-12 * scale or {"x", "y"} & set(a.latex + b.latex), (a, b, got)


@random_ones
@given(numbers, numbers, st.sampled_from(["({},{})", "[{},{})", "\\{{{},{}\\}}", "{},{}", "x={},y={}"]))
def test_parts_are_compared_one_by_one(a, b, form):
    gold, answer = form.format(a.latex, b.latex), form.format(a.rewritten, b.rewritten)
    assert verdict(gold, answer).score == 1.0, (gold, answer)
    assert verdict(gold, form.format(a.rewritten, b.rewritten + "+1")).score == 0.0, (gold, answer)


# --- any text at all

PIECES = [
    "\\frac", "\\sqrt", "\\boxed{", "{", "}", "(", ")", "[", "\\{", "^", "_", "!", "\\text{",
    "\\begin{pmatrix}", "&", "\\\\", "9", "x", "i", "\\pi", "\\sin", ",", "=", "<", "\\pm", "\\%", "$", "\x00",
    "\ud800", "١", "①", "1/2", "²", " ", "\\", "|", "0.\\overline", "</answer>", "<answer>", "<think>",
    "</think>", "\n",
]  # fmt: skip


def memory_mb(key: str) -> float:
    return int(re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


@settings(random_ones, max_examples=60)
@given(st.lists(st.sampled_from(PIECES), max_size=60), st.text(max_size=50), st.sampled_from([1, 7, 60, 2000]))
def test_any_text_gets_a_score_soon_and_in_little_memory(pieces, text, times):
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the peak, starts again from what the process now holds
    before = memory_mb("VmHWM")
    body = ("".join(pieces) + text) * times
    for completion in (body[:100_000], f"<answer>{body[:100_000]}</answer>", f"\\boxed{{{body[: MAX_ANSWER - 2]}}}"):
        start = time.perf_counter()
        (got,) = judge([completion], ["\\frac{x}{2}"])
        assert got.score in (0.0, 1.0) and not got.reason.startswith("reading it raised"), got
        assert time.perf_counter() - start < 3
    assert memory_mb("VmHWM") - before < 128


@pytest.mark.parametrize(
    "piece", ["a", "\\boxed{", "<answer>", "{", "\\boxed{5}", "</think>", "9", "\\frac{1}{2}+", "$", "\\", " "]
)
def test_cost_is_linear_in_the_completion(piece):
    start = time.perf_counter()
    for wrap in ("{}", "<answer>{}</answer>", "\\boxed{{{}}}", "<think>{}</think><answer>5</answer>"):
        assert math_answer([wrap.format(piece * (1_000_000 // len(piece)))], answer=["5"])[0] in (0.0, 1.0)
    assert time.perf_counter() - start < 8  # quadratic takes minutes


# --- the trainer's side: metrics, explanations, lost processes

KEYS = {
    "ungradable",
    "no_answer",
    "by_exact",
    "by_structure",
    "by_numeric",
    "unread",
    "refused",
    "seconds",
}


@pytest.mark.parametrize(
    "golds, answers, want",
    [
        ([], [], {}),
        (["5"] * 4, ["5", "6", None, "1e99999"], {"by_exact": 0.5, "no_answer": 0.25, "refused": 0.25}),
        (
            ["(", "(1,2)", "\\sqrt2", "5"],
            ["5", "(1,3)", "\\sqrt3", "5 \\clubsuit"],
            dict.fromkeys(["ungradable", "by_structure", "by_numeric", "unread"], 0.25),
        ),
    ],
)
def test_metrics_have_the_same_names_for_every_batch(golds, answers, want):
    logged = []
    math_answer(
        ["" if a is None else f"<answer>{a}</answer>" for a in answers],
        answer=golds,
        log_metric=lambda name, value: logged.append((name, value)),
    )
    assert sorted(name for name, _ in logged) == sorted(f"math_answer/{key}" for key in KEYS)
    shares = {name.removeprefix("math_answer/"): value for name, value in logged}
    assert shares.pop("seconds") >= 0
    assert shares == {key: want.get(key, 0.0) for key in KEYS - {"seconds"}}


@pytest.mark.launches
@pytest.mark.parametrize(
    "gold, text, expected",
    [
        ("5", "it is 5", ["no <answer> or \\boxed was found", "score    0.0"]),
        ("5", "<think>\\boxed{5}", ["<think> is never closed", "score    0.0"]),
        ("5", "\\boxed{5} \\boxed{6}", ["the last \\boxed in the text", "score    0.0"]),
        ("5", "<answer>5", ["no <answer> block is closed", "score    0.0"]),
        ("\\frac{1}{2}", "<answer>$0.50$</answer>", ["read as  0.50", "decided  by exact: equal", "score    1.0"]),
        ("(1,2)", "\\boxed{(1,3)}", ["by structure: different", "score    0.0"]),
        ("x", "<answer>blah blah blah + x</answer>", ["not read", "score    0.0"]),
        ("(", "<answer>5</answer>", ["the gold answer can't be read", "score    None"]),
    ],
)
def test_a_verdict_is_explained(gold, text, expected):
    command = [sys.executable, "-m", "rewards.math_answer", "--gold", gold, "--text", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert len(done.stdout.splitlines()) <= 6 and not done.stderr
    for line in expected:
        assert line in done.stdout


@pytest.mark.launches
def test_an_explanation_steers_no_terminal():
    text = "<answer>\\boxed{5\x1b[31m é}</answer>"
    command = [sys.executable, "-m", "rewards.math_answer", "--gold", "é\x1b]0;x\x07", "--text", text]
    for env in ({}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}):
        done = subprocess.run(
            command, capture_output=True, check=True, cwd=Path(__file__).parents[1], env=os.environ | env
        )
        assert done.stdout.isascii() and not {7, 27} & set(done.stdout) and len(done.stdout.splitlines()) == 5


def forget() -> None:
    for cached in (readable, compare, reading.read):
        cached.cache_clear()


@settings(random_ones, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_a_verdict_does_not_depend_on_what_was_graded_before(r):
    pairs = [(case["gold"], case["completion"]) for case in CASES] + [
        (row["gold"], f"<answer>{answer}</answer>")
        for row in PAIRS
        for answer in row.get("equal", []) + row.get("different", [])
    ]
    fresh = []
    for gold, text in pairs[:: r.randint(5, 9)]:
        forget()
        fresh.append((gold, text, judge([text], [gold])[0]))
    for _ in range(2):
        r.shuffle(fresh)
        assert judge([text for _, text, _ in fresh], [gold for gold, _, _ in fresh]) == [v for *_, v in fresh]


def test_threads_do_not_mix_their_verdicts():
    pairs = [
        [(f"\\sqrt{{{n}}}", f"\\frac{{{n}}}{{\\sqrt{{{n + (n + k) % 2}}}}}") for n in range(30, 60)] for k in range(4)
    ]
    forget()
    with ThreadPoolExecutor(4) as pool:
        batches = pool.map(lambda batch: [verdict(*pair).score for pair in batch], pairs)
        for k, got in enumerate(batches):
            assert got == [float((n + k) % 2 == 0) for n in range(30, 60)]
