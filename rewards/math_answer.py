"""Is the final answer mathematically equal to the gold one? Exact rationals first, math-verify for the rest.

Numbers in any usual spelling are compared as exact rationals, which settles both True and False: 2024 is not 2024.1, and
no float tolerance makes it so. What is no plain number goes to math-verify in a process of its own, under a memory limit
and a deadline, because model text can make any symbolic parser run for ever.
"""

import re
from fractions import Fraction
from functools import lru_cache

from rewards import _math_verify
from rewards._text import final_answer, text_of

MAX_ANSWER = 300  # characters: a longer final answer than this to a question with a gold answer is junk
MAX_DIGITS = 400  # of a number, its power of ten included

# an explicit map: NFKC would turn 5² into 52
UNICODE = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑﹣－", "-"),
        **dict.fromkeys("×·∙⋅✕", "*"),
        **dict.fromkeys("\xa0\u2009\u202f\u2002\u2003\u3000\u200b\ufeff", " "),
        **{chr(0xFF10 + d): str(d) for d in range(10)},
        "÷": "/", "⁄": "/", "∕": "/", "＋": "+", "．": ".", "，": ",", "％": "%", "＄": "$",
        "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
        "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "²": "^2", "³": "^3", "°": r"^\circ ", "≤": r"\le ", "≥": r"\ge ",
        "∪": r"\cup ",
    }
)  # fmt: skip
WRAPPERS = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|textrm)\s*\{([^{}]*)\}")
SPACING = re.compile(r"\\[,;:! ]|\\q?quad\b|~")
DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?$|\\degree$")
# only what \text set, or a word: a single letter behind a number is a variable, or i
UNIT = re.compile(r"\s*(?:\x00([^\x00]*)\x00|\b([a-zA-Z]{2,}[a-zA-Z /.\-]*))(?:\^\{?[23]\}?)?$")
NUMBER = re.compile(
    r"""(?P<sign>[+-]?)
        (?:
            (?P<whole>\d{1,3}(?:,\d{3})+|\d+)?(?:\.(?P<decimals>\d*))?(?:(?:\*10\^\{?|[eE])(?P<exponent>[+-]?\d+)\}?)?
          | \\frac\{(?P<n>-?\d+)\}\{(?P<d>-?\d+)\} | (?P<plain_n>\d+)/(?P<plain_d>-?\d+)
        )""",
    re.X,
)


def math_answer(completions, *, answer: list[str], **_) -> list[float | None]:
    """1.0 where a completion's final answer equals its row's gold answer, else 0.0; None where the gold can't be read.

    answer: one gold answer a completion, as bare LaTeX or plain text, such as "72", "1/2" or "\\frac{1}{2}".
    """
    return [grade(text_of(c), gold) for c, gold in zip(completions, answer, strict=True)]


def grade(text: str, gold: str | None) -> float | None:
    """Score one completion against one gold answer."""
    if gold is None or not readable(gold):
        return None
    found = final_answer(text)
    if found is None or len(found) > MAX_ANSWER:
        return 0.0
    (left, left_unit), (right, right_unit) = quantity(gold), quantity(found)
    if left_unit and right_unit and left_unit != right_unit:
        return 0.0
    if left == right:
        return 1.0
    expected, given = number(left), number(right)
    if expected is not None and given is not None:
        return float(expected == given)
    return float(_math_verify.equal(left, right))


@lru_cache(maxsize=100_000)
def readable(gold: str) -> bool:
    """Whether a gold answer can be graded against: a number, or something that math-verify can parse."""
    value, _ = quantity(gold)
    return bool(value) and (number(value) is not None or _math_verify.parses(value))


def quantity(answer: str) -> tuple[str, str]:
    """An answer in one spelling, and the unit behind it where it is a number, such as ("5", "cm")."""
    s = normalize(answer)
    unit = UNIT.search(s)
    if unit and number(s[: unit.start()]) is not None:
        return s[: unit.start()], (unit[1] or unit[2]).strip().lower()
    return s.replace("\x00", " ").strip(), ""


def normalize(answer: str) -> str:
    r"""One spelling for what only looks different: delimiters, spacing, \text (kept between NULs), currency."""
    s = answer.replace("\x00", "").strip().strip("*").translate(UNICODE)
    s = s.removeprefix("$").removesuffix("$").removeprefix("\\(").removesuffix("\\)").strip()
    s = SPACING.sub(lambda m: "" if m[0] in ("\\!", "\\,") else " ", s)
    s = WRAPPERS.sub("\x00\\1\x00", s).replace("\\left", "").replace("\\mathbf", "").replace("\\right", "")
    s = s.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cdot", "*").replace("\\times", "*")
    s = s.replace("\\$", "").replace("\\%", "%").replace("$", "").strip()
    s = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", s)
    s = re.sub(r"[\s\x00]+percent\x00?$", "%", s)
    return DEGREES.sub("", s.rstrip(". ")).strip()


def number(s: str) -> Fraction | None:
    """The exact value of a normalized answer that is a plain number, else None."""
    s = re.sub(r"(\d)\s+(?=\d+/|\\frac)", r"\1 ", s)  # a mixed number keeps its space until it is read
    mixed = re.fullmatch(r"(-?)(\d+) ?(?:\\frac\{(\d+)\}\{(\d+)\}|(?<= )(\d+)/(\d+))", s)
    if len(s) > MAX_DIGITS:
        return None
    if mixed:
        sign, whole, n, d = mixed[1], int(mixed[2]), int(mixed[3] or mixed[5]), int(mixed[4] or mixed[6])
        return None if d == 0 else (whole + Fraction(n, d)) * (-1 if sign else 1)
    s = re.sub(r"\s*([-+*^/{}])\s*", r"\1", s)
    while s.startswith("(") and s.endswith(")") and "(" not in s[1:]:
        s = s[1:-1]
    scale = Fraction(1, 100) if s.endswith("%") else Fraction(1)
    match = NUMBER.fullmatch(s.removesuffix("%").strip())
    if match is None:
        return None
    sign = -scale if match["sign"] == "-" else scale
    if match["n"] or match["plain_n"]:
        n, d = int(match["n"] or match["plain_n"]), int(match["d"] or match["plain_d"])
        return None if d == 0 else sign * Fraction(n, d)
    whole, decimals, exponent = (match["whole"] or "").replace(",", ""), match["decimals"] or "", match["exponent"]
    if not whole + decimals or (exponent and abs(int(exponent)) > MAX_DIGITS):
        return None
    return sign * Fraction(int(whole + decimals), 10 ** len(decimals)) * Fraction(10) ** int(exponent or 0)
