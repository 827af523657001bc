"""What math_answer pays for: labelled cases, real golds, random equal and unequal pairs, hostile input, lost workers."""

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import _math_verify
from rewards.math_answer import MAX_ANSWER, judge, math_answer

CASES, GOLDS = (
    [json.loads(line) for line in Path(__file__).with_name("cases").joinpath(f"{name}.jsonl").open()]
    for name in ("math_cases", "golds")
)
GOLDS = [row["gold"] for row in GOLDS[1:]]  # the first line names their sources
random_ones = settings(derandomize=True, deadline=None, max_examples=150, database=None)


def verdict(gold, answer):
    return judge([f"<think>so</think><answer>{answer}</answer>"], [gold])[0]


def test_labelled_cases():
    for case in CASES:
        for path in case.get("must_not_create", ()):
            assert not os.path.exists(path), f"{path} was left by something else: remove it"
    _math_verify.start()
    for case in CASES:
        start = time.perf_counter()
        score = math_answer([case["completion"]], answer=[case["gold"]])
        assert score == [float(case["expected"])], case
        assert time.perf_counter() - start < 3, case["id"]
        assert not any(map(os.path.exists, case.get("must_not_create", ())))


def test_real_golds_score_one_in_every_form_and_the_next_one_zero():
    equal = {("5", "x=5")}  # one row after the other in MATH-500
    for gold, following in zip(GOLDS, GOLDS[1:] + GOLDS[:1], strict=True):
        forms = [f"\\boxed{{{gold}}}", f"<answer>{gold}</answer>", f"<answer>\\boxed{{{gold}}}</answer>"]
        assert math_answer(forms, answer=[gold] * 3) == [1.0] * 3
        if following != gold and (gold, following) not in equal:
            assert math_answer([f"<answer>{following}</answer>"], answer=[gold]) == [0.0], (gold, following)


# a gold answer, then answers equal to it
EQUAL = r"""
-7  ::  - 7
7  ::  +7  ::  7.0  ::  \text{7}  ::  \textbf{7}  ::  \mathrm{7}  ::  {7}  ::  {{7}}  ::  (7)  ::  $7$  ::  $$7$$  ::  \(7\)  ::  \displaystyle 7  ::  7\quad  ::  7~  ::  \,7  ::  \large 7  ::  \color{red}{7}  ::  \underline{7}
4  ::  \sqrt{16}  ::  \frac{8}{2}  ::  1+3=4  ::  x=4  ::  x = 2 + 2 = 4
2  ::  \lceil 1.3 \rceil  ::  \log 100  ::  \sqrt[3]{8}  ::  ∛8
6  ::  \binom{4}{2}  ::  {4 \choose 2}  ::  3!  ::  12 ÷ 2
8  ::  2**3  ::  8 apples  ::  \text{8 apples}
3  ::  \log_{2}(8)
\frac13  ::  0.\overline{3}  ::  0.\bar{3}  ::  0.\dot{3}
\frac16  ::  0.1\overline6
\frac17  ::  0.\dot{1}4285\dot{7}
1  ::  0.\overline{9}
5  ::  5.  ::  5\text{cm}  ::  5\,\text{cm}  ::  5\mathrm{~cm}  ::  5 \mathrm{cm}  ::  5cm  ::  5 centimeters  ::  \$5  ::  €5  ::  x=5  ::  x = 5  ::  ５  ::  \boxed{5}  ::  The answer is 5  ::  The final answer is $5$.  ::  Answer: 5  ::  #### 5  ::  5 \text{ apples}
\frac{1}{2}  ::  \frac{2}{4}  ::  1 / 2  ::  \frac 1 2  ::  \frac{1}2  ::  \tfrac{1}{2}  ::  \cfrac{1}{2}  ::  1⁄2  ::  {1 \over 2}  ::  \left.\frac{1}{2}\right.
-\frac12  ::  -0.5
\frac{a}{b}  ::  \frac{2a}{2b}
\frac{16}{5}  ::  3\frac{1}{5}  ::  3 \frac{1}{5}  ::  3\ \frac{1}{5}  ::  3 + \frac{1}{5}
-\frac{3}{2}  ::  -1\frac{1}{2}
\frac{3}{2}  ::  1½  ::  1 ½
1234  ::  1{,}234
1234567  ::  1,234,567  ::  1\,234\,567
12345  ::  12,345.00
1,2,3  ::  1, 2, 3  ::  1, 2, \text{ and } 3  ::  1, 2 and 3
50\%  ::  50 \%  ::  50  ::  50\text{ percent}  ::  50 percent  ::  0.50
0.5  ::  50\%
12.5\%  ::  \frac18  ::  12\frac12\%
5 \text{ cm}  ::  5 \text{ centimeters}  ::  5\text{cm}
12  ::  12 \text{ cm}^2  ::  12\text{ cm}^{2}  ::  １２  ::  3 × 4
12 \text{ cm}^2  ::  12 \text{ square centimeters}  ::  12 cm²
60  ::  60 \text{ km/h}  ::  60 miles per hour
60 \text{ mph}  ::  60 \text{ miles per hour}
8 \text{ apples}  ::  8
30  ::  30 \text{ min}
90^\circ  ::  90 degrees  ::  90°  ::  90\degree  ::  \frac{\pi}{2}
20^\circ\text{C}  ::  20
\$5  ::  5 \text{ dollars}  ::  $5  ::  5 USD
\$1,234.50  ::  1234.5
3 \times 10^5  ::  3 \cdot 10^{5}  ::  3e5  ::  3 × 10⁵  ::  3E+5
3 \times 10^{-4}  ::  0.0003
300000  ::  3*10^5
\sqrt{8}  ::  2\sqrt{2}  ::  √8  ::  2√2  ::  \sqrt 8  ::  8^{1/2}  ::  8^{0.5}  ::  sqrt(8)
\sqrt{12}  ::  √12
2\sqrt{2}  ::  2*sqrt(2)
\sqrt[3]{16}  ::  2\sqrt[3]{2}
\frac{1}{\sqrt{2}+1}  ::  \sqrt{2}-1
\sqrt{3+2\sqrt2}  ::  1+\sqrt2
\sqrt{2}\sqrt{3}  ::  \sqrt{6}
\sqrt{x^2y}  ::  \sqrt{y x^2}
\frac{\pi}{2}  ::  \pi/2
2\pi  ::  2 pi  ::  2*pi
\frac{2\pi}{3}  ::  \frac23\pi
\ln 2  ::  \log_e 2  ::  \ln(2)
2\ln 2  ::  \ln 4
e^{2}  ::  e^2
\frac{1}{e}  ::  e^{-1}
x^2+2x+1  ::  1+2x+x^2  ::  x^2 + 2x + 1
x^2-1  ::  (x-1)(x+1)
\frac{x^2-1}{x-1}  ::  x+1
2^{n+1}  ::  2\cdot 2^n  ::  2^n+2^n
4^n  ::  2^{2n}
x^{n+1}  ::  x\cdot x^n
\sin^2 x + \cos^2 x  ::  1
\tan x  ::  \frac{\sin x}{\cos x}
\cos 2x  ::  2\cos^2 x - 1
\sin(x)  ::  \sin x
\cot x  ::  \frac{1}{\tan x}  ::  \cot(x)
ab  ::  ba
|x|  ::  \lvert x\rvert
x_1  ::  x_{1}
x_1+x_2  ::  x_2+x_1
\alpha+\beta  ::  β+α
x=5  ::  5  ::  5=x  ::  2x=10
y=2x+1  ::  2x+1=y  ::  f(x)=2x+1
f(x)=2x+1  ::  2x+1
x^2+y^2=1  ::  y^2+x^2=1  ::  x^2+y^2-1=0  ::  2x^2+2y^2=2
y=\frac{1}{x}  ::  xy=1
5x - 7y + 11z + 4 = 0  ::  -5x+7y-11z-4=0
\{1,2\}  ::  \{2,1\}  ::  1,2  ::  1 \text{ and } 2
1,2  ::  \{1,2\}  ::  2,1  ::  1;2  ::  1 and 2  ::  x=1 or x=2  ::  x = 1, 2  ::  x_1=1, x_2=2  ::  x\in\{1,2\}
x=1,2  ::  1,2
\{1,2,2\}  ::  \{1,2\}
\emptyset  ::  \varnothing  ::  \{\}  ::  ∅
\pm 2  ::  \{2,-2\}  ::  \{-2,2\}  ::  -2,2  ::  x=\pm 2  ::  2 \text{ or } -2  ::  ±2
1\pm\sqrt{2}  ::  1+\sqrt2, 1-\sqrt2  ::  \{1-\sqrt2, 1+\sqrt2\}
\frac{1\pm\sqrt5}{2}  ::  \frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2}
\pm\frac{1}{2}  ::  \frac{1}{2},-\frac{1}{2}
(1,2)  ::  \left(1,2\right)  ::  (1.0,2)  ::  (x,y)=(1,2)  ::  1,2  ::  x=1,y=2
(3,4)  ::  3, 4
(\frac12,3)  ::  (0.5,3)
(1,2),(3,4)  ::  (3,4),(1,2)  ::  (1,2) \text{ and } (3,4)
(2,\frac{\pi}{3})  ::  (2,\pi/3)
x=1,y=2  ::  y=2,x=1  ::  (1,2)
[0,1)  ::  [0, 1)  ::  x\in[0,1)
(0,1)  ::  0<x<1
[0,1]  ::  0 \leq x \leq 1
(-\infty,2)  ::  x<2
(-\infty,2]  ::  x \le 2  ::  x ≤ 2
x \geq 3  ::  [3,\infty)  ::  3 \leq x
x>3  ::  2x>6
(-\infty,\infty)  ::  \mathbb{R}
(-\infty, 2) \cup (3, \infty)  ::  x<2 \text{ or } x>3  ::  x<2, x>3  ::  (-∞,2)∪(3,∞)  ::  (-\infty,2)U(3,\infty)
(-\infty, 3) \cup (3, \infty)  ::  x \ne 3
x \neq 3  ::  x \ne 3
(1,3)  ::  x>1 \text{ and } x<3
(0,2)\cup(1,3)  ::  (0,3)
(-\sqrt3,\sqrt3)  ::  -\sqrt3<x<\sqrt3
[1,\infty)  ::  [1,+\infty)
\infty  ::  +\infty  ::  infinity
\begin{pmatrix}1&2\\3&4\end{pmatrix}  ::  \begin{bmatrix}1&2\\3&4\end{bmatrix}  ::  \left[\begin{array}{cc}1&2\\3&4\end{array}\right]  ::  \begin{pmatrix}1&2\\3&4\\\end{pmatrix}
\begin{pmatrix}1/2\\1\end{pmatrix}  ::  \begin{pmatrix}0.5\\1\end{pmatrix}  ::  \frac12\begin{pmatrix}1\\2\end{pmatrix}
3+4i  ::  3 + 4i  ::  3+i4  ::  3+4\mathrm{i}
2i  ::  (1+i)^2
-i  ::  \frac{1}{i}
i  ::  i^5
\frac{1-i}{2}  ::  \frac{1}{1+i}
\sqrt{-4}  ::  2i
e^{i\pi}  ::  -1
\text{even}  ::  Even  ::  \textbf{even}  ::  even.
\text{Monday}  ::  monday
\text{Evelyn}  ::  Evelyn
\text{Yes}  ::  yes
B  ::  (B)  ::  \text{(B)}  ::  B.  ::  \text{B}  ::  \mathrm{B}  ::  \mathbf{B}  ::  b  ::  \text{B)}  ::  Option B
\text{(C)}  ::  C  ::  (C)
2:3  ::  2 : 3  ::  4:6  ::  \frac{2}{3}
\frac23  ::  2:3
1:2:3  ::  2:4:6
10:30  ::  10:30 \text{ a.m.}
10:30 \text{ AM}  ::  10:30 a.m.
1011_2  ::  1011_{2}  ::  1011₂  ::  01011_2  ::  1011_{\text{2}}
52_8  ::  52_{8}  ::  \text{52}_8
x^2  ::  x²
x^{-1}  ::  x⁻¹
2^{10}  ::  2¹⁰
-5  ::  ﹣5
\frac34  ::  ¾
\sqrt2  ::  √2
\sqrt{2}  ::  √(2)
x\le 3  ::  x ≤ 3
3\cdot 4  ::  3·4
\theta  ::  θ
\frac{1}{2004!}  ::  \frac{2005}{2005!}
2^{1000}  ::  4^{500}
3\pmod 5  ::  3 \pmod{5}
x\equiv 3 \pmod 5  ::  x \equiv 3 \pmod{5}
0  ::  -0  ::  0.0
\lfloor 2.7\rfloor  ::  2
n=2,3,4  ::  2,3,4
\frac{270}7\text{ degrees}  ::  \frac{270}{7}
137 \frac{1}{2}  ::  137.5
864 \mbox{ inches}^2  ::  864
x \in [-2,7]  ::  [-2,7]
\{1\pm\sqrt{5},-2\}  ::  \{-2,1+\sqrt5,1-\sqrt5\}
11,\! 111,\! 111,\! 100  ::  11111111100
5.4 \text{ cents}  ::  5.4
"""
# a gold answer, then answers that differ from it
DIFFERENT = r"""
0.5  ::  5  ::  0,5  ::  50
\frac13  ::  0.333
1234  ::  1 234  ::  1,2,3,4
123456  ::  1,23,456
1,2,3  ::  1,2
50\%  ::  5  ::  5000  ::  0.5\%  ::  51\%
12 \text{ cm}^2  ::  12 \text{ cm}
30 \text{ min}  ::  30 \text{ hours}
90^\circ  ::  \pi  ::  45
90  ::  \frac{\pi}{2}
5 \text{ m}  ::  5 \text{ cm}
5 \text{ kg}  ::  5 \text{ lb}
\$5  ::  5 \text{ cents}  ::  €5  ::  \$50
3 \times 10^5  ::  3 \times 10^6
2  ::  \sqrt[3]{9}
\sqrt{3+2\sqrt2}  ::  1+\sqrt3
\sqrt2  ::  1.414  ::  1.41421356237
2\pi  ::  6.28
e  ::  2.718
\pi  ::  3.14159265358979
\ln 2  ::  \ln 3
2^{n+1}  ::  2^n
\cos 2x  ::  2\cos^2 x + 1
\cot x  ::  \tan x
2ab  ::  2
2xy  ::  2
x=5  ::  y=5  ::  x=6
y=2x+1  ::  y=2x-1  ::  2x-1
x^2+y^2=1  ::  x^2+y^2=2
4  ::  4=5  ::  5=4  ::  2+2=5=4  ::  x=3=4
16  ::  A = \pi r^2
1,2  ::  1,3  ::  1,2,3  ::  1,1
\{1,2\}  ::  (1,2)  ::  [1,2]
(1,2)  ::  [1,2]  ::  (2,1)  ::  x=2,y=1
\{1\}  ::  \{2\}
\emptyset  ::  0  ::  \{0\}
\pm 2  ::  2  ::  -2
1\pm\sqrt{2}  ::  1\pm\sqrt3
(3,4)  ::  4,3
(1,2),(3,4)  ::  (1,3),(2,4)
x=1,y=2  ::  x=2,y=1
[0,1)  ::  [0,1]
(-\infty,2]  ::  x<2
x>3  ::  x<3  ::  3  ::  y>3
(-\infty, 2) \cup (3, \infty)  ::  (-\infty, 2) \cup [3, \infty)  ::  (-\infty, 2)
\infty  ::  -\infty
-\infty  ::  \infty
\begin{pmatrix}1&2\\3&4\end{pmatrix}  ::  \begin{pmatrix}1&3\\2&4\end{pmatrix}  ::  \begin{pmatrix}1&2\\3&5\end{pmatrix}
3+4i  ::  3+4  ::  4+3i
\text{even}  ::  neve  ::  \text{not even}
\text{yes}  ::  yes and no  ::  \text{no}
\text{true}  ::  \text{false}
1  ::  true  ::  1^{\infty}
C  ::  b
B  ::  A  ::  A, B  ::  \text{A or B}  ::  AB  ::  \text{(A) or (B)}
2:3  ::  3:2  ::  2:4  ::  2,3
10:30  ::  10:31  ::  10.30
1:20  ::  2:40
10:30 \text{ am}  ::  10:30 \text{ pm}
1011_2  ::  1011  ::  11  ::  1011_{10}
1011  ::  1011_2
52_8  ::  53_8
52  ::  5²
5  ::  ٥  ::  ⑤  ::  ⁵  ::  x+5  ::  blah blah + 5  ::  foo+5  ::  0+5 or 6  ::  5 or 6  ::  5, 6  ::  5 6  ::  5 \text{ or } 6  ::  \text{5 or 6}  ::  5 \text{ or 6}  ::  5?6  ::  5;6  ::  5 \ne 6  ::  \neq 5  ::  >4  ::  x>4  ::  4<x<6  ::  \text{not } 5  ::  not 5  ::  5 is wrong  ::  -5  ::  5 \text{ or more}  ::  \pm 5  ::  \{5,6\}  ::  [5,6]  ::  4.999999999999999999999  ::  5.0000000000000000001  ::  \text{five or six}  ::  [0-9]  ::  .*  ::  *  ::  \boxed{6}  ::  5 apples or 6 apples  ::  \frac{5}{0}
x  ::  5
0  ::  \frac{0}{0}  ::  0^0
\frac{1}{2004!}  ::  \frac{1}{2006!}
2^{-99}  ::  2^{-98}
10^{-400}  ::  0
2^{1000}  ::  2^{1001}
2^{100000}  ::  2^{100001}
3  ::  3 \pmod{5}
n=2,3,4  ::  n=1,2,3
"""


@pytest.mark.parametrize("table, want", [(EQUAL, 1.0), (DIFFERENT, 0.0)], ids=["equal", "different"])
def test_table(table, want):
    for line in table.strip().splitlines():
        gold, *answers = line.split("  ::  ")
        for answer in answers:
            assert verdict(gold, answer).score == want, (gold, answer, verdict(gold, answer))
            assert verdict(gold, f"\\boxed{{{answer}}}").score == want, (gold, answer)


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
def test_costly_answers_are_refused_or_decided_at_once(gold, answer):
    _math_verify.start()
    start = time.perf_counter()
    assert verdict(gold, answer).score == 0.0
    assert time.perf_counter() - start < 3


def test_gold_beyond_the_readers_here_is_left_to_math_verify():
    assert verdict("{4 \\choose 2}", "6") == (1.0, "math_verify", "math-verify says equal")
    assert verdict("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}").path == "math_verify"
    assert verdict("\\sqrt{3+2\\sqrt{2}}", "2+\\sqrt{2}") == (0.0, "algebra", "different")  # refuted by values


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
    assert verdict(number.latex, number.rewritten)[:2] in ((1.0, "algebra"), (1.0, "exact")), number
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
    "\\frac",
    "\\sqrt",
    "\\boxed{",
    "{",
    "}",
    "(",
    ")",
    "[",
    "\\{",
    "^",
    "_",
    "!",
    "\\text{",
    "\\begin{pmatrix}",
    "&",
    "\\\\",
]
PIECES += [
    "9",
    "x",
    "i",
    "\\pi",
    "\\sin",
    ",",
    "=",
    "<",
    "\\pm",
    "\\%",
    "$",
    "\0",
    "\ud800",
    "١",
    "²",
    " ",
    "\\",
    "|",
    "0.\\overline",
]
PIECES += ["</answer>", "<answer>", "<think>", "</think>", "\n"]


@settings(random_ones, max_examples=60)
@given(st.lists(st.sampled_from(PIECES), max_size=60), st.text(max_size=50), st.sampled_from([1, 7, 60, 2000]))
def test_any_text_gets_a_score_soon_and_in_little_memory(pieces, text, times):
    body = ("".join(pieces) + text) * times
    for completion in (body[:100_000], f"<answer>{body[:100_000]}</answer>", f"\\boxed{{{body[: MAX_ANSWER - 2]}}}"):
        start = time.perf_counter()
        assert math_answer([completion], answer=["\\frac{x}{2}"])[0] in (0.0, 1.0)
        assert time.perf_counter() - start < 3 + _math_verify.DEADLINE_S  # a server may have to start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert peak_mb < 1024


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
    "by_algebra",
    "by_math_verify",
    "refused",
    "timeouts",
    "seconds",
}


@pytest.mark.parametrize(
    "golds, answers, want",
    [
        ([], [], {}),
        (["5"] * 4, ["5", "6", None, "9^{9^{9}}"], {"by_exact": 0.5, "no_answer": 0.25, "refused": 0.25}),
        (
            ["(", "(1,2)", "\\sqrt2", "{4 \\choose 2}"],
            ["5", "(1,3)", "\\sqrt3", "6"],
            dict.fromkeys(["ungradable", "by_structure", "by_algebra", "by_math_verify"], 0.25),
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


@pytest.mark.parametrize(
    "gold, text, expected",
    [
        ("5", "it is 5", ["no <answer> or \\boxed was found", "score    0.0"]),
        ("5", "<think>\\boxed{5}", ["<think> is never closed", "score    0.0"]),
        ("5", "\\boxed{5} \\boxed{6}", ["2 different \\boxed", "score    0.0"]),
        ("5", "<answer>5", ["<answer> is never closed", "score    0.0"]),
        ("\\frac{1}{2}", "<answer>$0.50$</answer>", ["read as  0.50", "decided  by exact: equal", "score    1.0"]),
        ("(1,2)", "\\boxed{(1,3)}", ["by structure: different", "score    0.0"]),
        ("x", "<answer>blah blah blah + x</answer>", ["no mathematics", "score    0.0"]),
        ("(", "<answer>5</answer>", ["the gold answer can't be read", "score    None"]),
    ],
)
def test_a_verdict_is_explained(gold, text, expected):
    command = [sys.executable, "-m", "rewards.math_answer", "--gold", gold, "--text", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert len(done.stdout.splitlines()) <= 6 and not done.stderr
    for line in expected:
        assert line in done.stdout


def asked(n: int) -> float:
    """The score of an answer that math-verify has to compare, new to the caches."""
    return verdict(f"{{{n} \\choose 1}}", str(n)).score


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_killed_workers_and_a_killed_server_are_replaced():
    assert asked(20) == 1.0
    server = _math_verify._server.pid
    workers = children(server)
    assert len(workers) == _math_verify.workers_here()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    both = judge(["\\boxed{12}", "\\boxed{13}", "\\boxed{14}"], [f"{{{n} \\choose 1}}" for n in (12, 13, 14)])
    assert [v.score for v in both] == [1.0] * 3
    assert _math_verify._server.pid == server and not set(children(server)) & set(workers)
    os.kill(server, signal.SIGKILL)
    assert asked(23) == 1.0
    assert _math_verify._server.pid != server


def test_a_stuck_pair_is_killed_and_scores_zero_while_others_go_on(monkeypatch):
    monkeypatch.setattr(_math_verify, "refusal", lambda text: None)
    bomb = "((x+y+z+w+1)^{200}(x+i)^{99})!"
    start = time.perf_counter()
    got = judge([f"<answer>{a}</answer>" for a in ("7", bomb, "8")], ["{7 \\choose 1}"] * 3)
    assert [v.score for v in got] == [1.0, 0.0, 0.0] and got[1].path == "timeout"
    assert time.perf_counter() - start < 2 * _math_verify.DEADLINE_S + 3


def test_the_server_gets_no_secret_and_no_open_file(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "a-secret")
    _math_verify.stop()
    with open(tmp_path / "held", "w"):
        assert asked(24) == 1.0
    for pid in [_math_verify._server.pid, *children(_math_verify._server.pid)]:
        assert "a-secret" not in Path(f"/proc/{pid}/environ").read_text()
        assert str(tmp_path) not in str([os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir()])


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_is_gone_soon_after_its_parent(way):
    code = "import time; from rewards import _math_verify as m; m.start(); print(m._server.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    server = int(parent.stdout.readline())
    family = [server, *children(server)]
    assert len(family) > 1
    parent.send_signal(way)
    parent.wait()
    end = time.monotonic() + 2
    while not all(map(gone, family)) and time.monotonic() < end:
        time.sleep(0.05)
    assert all(map(gone, family))


def test_a_fork_starts_its_own_server():
    assert asked(25) == 1.0
    server = _math_verify._server.pid
    child = os.fork()
    if child == 0:
        os._exit(int(not (asked(26) == 1.0 and _math_verify._server.pid != server)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _math_verify._server.pid == server and asked(27) == 1.0


def test_workers_share_the_cores_with_the_other_ranks(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for ranks, want in (("", 8), ("2", 4), ("16", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert _math_verify.workers_here() == want


def test_a_server_that_can_not_start_raises(monkeypatch):
    _math_verify.stop()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"):
        asked(28)
