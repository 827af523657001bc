r"""Is the final answer mathematically equal to the gold one? Decided exactly or to 40 digits, never by a parser that can hang.

1. rewards._text finds the final answer behind the thoughts.
2. rewards._math.spelling, latex and structure read both sides: numbers, tuples, intervals, sets, matrices, equations, units.
3. rewards._math.compare compares them part by part, and numeric closed forms: 2024 is not 2024.1.

What isn't read is wrong, unless it is spelled like the gold. Nothing is evaluated, expanded or simplified, so that model text
costs what its length costs.

Why an answer scored as it did: python -m rewards.math_answer --gold '\frac{1}{2}' --text '<answer>0.5</answer>'
"""

import argparse
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from rewards._math.compare import same
from rewards._math.latex import Malformed, TooCostly, Unsupported
from rewards._math.reading import read
from rewards._math.spelling import normalize
from rewards._math.structure import Node
from rewards._math.words import YES_OR_NO, canonical, same_words
from rewards._text import extract, printable, text_of

MAX_ANSWER = 1000  # characters: a longer final answer is junk
# a unit of one letter, which beside a formula would be a variable: 5 m, 5 m/s
LETTER_UNIT = re.compile(r"([+-]?[0-9][0-9.,/]*)[ ~]((?:[mgshLNJWVA]|km|cm)(?:/[sh])?)(\^(?:[23]|\{[23]\}))?")
PROGRAM_LOG = re.compile(r"(?<![\\a-zA-Z])log(?=\()")
# "(C) 15" where the gold is C; a second letter would be a second answer
OPTION = re.compile(r"\0?(?:(?:[Oo]ption|[Cc]hoice)\0?\s*)?\(?([A-J])\s*[).:]\s*(?:(?!\b[A-J]\b).)+", re.S)
# what an escape makes of \text, \frac, \rho or \neq in a file that was written without care
DAMAGED = re.compile(
    r"[\x07\x08\x0b\x0c]|\t(?:ext|frac|imes|heta|an\b|au\b|o\b|ilde|riangle)|\r(?:ight|ho|angle|m\b)|\n(?:eq|e\b|u\b|abla|ot\b)"
)
UNFORESEEN = (ValueError, ArithmeticError, LookupError, RecursionError)
PATHS = ("exact", "structure", "numeric")


class Verdict(NamedTuple):
    """A score, what decided (one of PATHS, or ungradable, no_answer, unread, refused), and why in words."""

    score: float | None
    path: str
    reason: str


def math_answer(
    completions, *, answer: list[str], log_metric: Callable[[str, float], None] | None = None, **_
) -> list[float | None]:
    r"""1.0 where a completion's final answer equals its row's gold answer, else 0.0; None where the gold can't be read.

    answer: one gold answer a completion, as bare LaTeX or plain text, such as "72", "1/2" or "\frac{1}{2}".
    log_metric: gets the shares of completions by what decided, and the seconds; the same names whatever the batch holds.
    """
    start = time.perf_counter()
    verdicts = judge([text_of(c) for c in completions], answer)
    if log_metric is not None:
        for name, value in metrics(verdicts, time.perf_counter() - start).items():
            log_metric(f"math_answer/{name}", value)
    return [v.score for v in verdicts]


def judge(texts: list[str], golds: list[str | None]) -> list[Verdict]:
    """A verdict for each completion, which depends on nothing but it and its gold."""
    return [judge_one(text, as_text(gold)) for text, gold in zip(texts, golds, strict=True)]


def judge_one(text: str, gold: str | None) -> Verdict:
    if gold is None or not readable(gold):
        return Verdict(None, "ungradable", "the gold answer can't be read")
    found, where = extract(text)
    return Verdict(0.0, "no_answer", where) if found is None else compare(gold, found)


def as_text(gold) -> str | None:
    """A gold answer as text; None for what is neither text nor a whole number, whose meaning would be a guess."""
    if isinstance(gold, int) and not isinstance(gold, bool):
        return str(gold) if abs(gold) < 10**MAX_ANSWER else None
    return gold if isinstance(gold, str) else None


@lru_cache(maxsize=20_000)
def readable(gold: str) -> bool:
    """Whether a gold answer can be graded against, if only by its spelling."""
    if len(gold) > MAX_ANSWER or DAMAGED.search(gold):
        return False
    try:
        node = read(gold)
        return node.form is None or node.form.defined
    except Unsupported:
        return True
    except (Malformed, TooCostly, *UNFORESEEN):
        return False


@lru_cache(maxsize=20_000)
def compare(gold: str, found: str) -> Verdict:
    """The verdict on a final answer, against a gold one that is readable."""
    if len(found) > MAX_ANSWER:
        return Verdict(0.0, "refused", f"an answer of {len(found)} characters")
    try:
        return weigh(gold, found)
    except UNFORESEEN as error:  # model text must not end a training run: it isn't an answer, and counted as refused
        return Verdict(0.0, "refused", f"reading it raised {type(error).__name__}")


def weigh(gold: str, found: str) -> Verdict:
    spelled = normalize(gold), normalize(found)
    if spelled[0] == spelled[1]:
        return Verdict(1.0, "exact", "both are written the same")
    try:
        wanted = read(gold)
    except Unsupported as error:
        if spelled[0].replace(" ", "") == spelled[1].replace(" ", ""):
            return Verdict(1.0, "exact", "both are written the same")
        return Verdict(0.0, "unread", f"the gold can only be compared by its spelling: {error}".replace("\0", ""))
    if wanted.kind == "choice" and (option := OPTION.fullmatch(spelled[1])):
        return Verdict(float(option[1] == wanted.tag), "structure", "the letter of an option, before its text")
    if (wanted.kind == "words" or wanted.tag in YES_OR_NO) and same_words(wanted.tag, canonical(spelled[1])):
        return Verdict(1.0, "structure", "equal")  # yes, because 3 is odd
    try:
        given = read(in_terms_of(wanted, gold, found))
    except TooCostly as error:
        return Verdict(0.0, "refused", f"the answer: {error}")
    except (Unsupported, Malformed) as error:
        return Verdict(0.0, "unread", f"the answer is not read: {error}".replace("\0", ""))
    verdict = same(wanted, given)
    if verdict is None:
        return Verdict(0.0, "unread", "neither equal nor different, as far as can be told")
    return Verdict(float(verdict), path_of(wanted, given), "equal" if verdict else "different")


def in_terms_of(wanted: Node, gold: str, found: str) -> str:
    """An answer whose letters mean what they mean in the gold: m a metre beside a number, log( the natural logarithm."""
    if "ln" in gold and "ln" not in found:
        found = PROGRAM_LOG.sub("ln", found)
    quantity = wanted.kind == "unit" or (wanted.form and wanted.form.rational is not None)
    return (
        LETTER_UNIT.sub(r"\1\\text{ \2}\3", found) if quantity and LETTER_UNIT.fullmatch(found.strip("$. ")) else found
    )


def path_of(gold: Node, found: Node) -> str:
    if gold.form is None or found.form is None:
        return "structure"
    return "exact" if gold.form.rational is not None and found.form.rational is not None else "numeric"


def metrics(verdicts: list[Verdict], seconds: float) -> dict[str, float]:
    """The same names for every batch, so that ranks can be averaged."""
    count = dict.fromkeys(("ungradable", "no_answer", *PATHS, "unread", "refused"), 0)
    for verdict in verdicts:
        count[verdict.path] += 1
    share = {f"by_{name}" if name in PATHS else name: n / max(1, len(verdicts)) for name, n in count.items()}
    return share | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Explain how a completion is scored.")
    parser.add_argument("--gold", required=True, help="the row's answer, as bare LaTeX or plain text")
    parser.add_argument("--text", required=True, help="the complete completion")
    options = parser.parse_args()
    found, where = extract(options.text)
    (verdict,) = judge([options.text], [options.gold])
    shown = [normalize(side or "").replace("\0", '"')[:200] for side in (options.gold, found)]
    lines = [f"answer   {'none: ' if found is None else repr(found[:200]) + ', from '}{where}", f"gold     {shown[0]}"]
    if found is not None:
        lines.append(f"read as  {shown[1]}")
    lines += [f"decided  by {verdict.path}: {verdict.reason}", f"score    {verdict.score}"]
    print("\n".join(map(printable, lines)))


if __name__ == "__main__":
    main()
