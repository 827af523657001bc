r"""Is the final answer mathematically equal to the gold one? Exact arithmetic decides; math-verify gets the rest.

1. rewards._text finds the final answer behind the thoughts.
2. rewards._spelling, _latex and _structure read both sides: numbers, tuples, intervals, sets, matrices, equations, units.
3. rewards._same compares them part by part, and _algebra closed forms exactly, True and False alike: 2024 is not 2024.1.
4. What is left (identities of sines, nested radicals, unknown commands) goes to math-verify in processes of its own, behind
   a gate on what it may cost and with a deadline, because model text can make any symbolic parser run for ever.

Why an answer scored as it did: python -m rewards.math_answer --gold '\frac{1}{2}' --text '<answer>0.5</answer>'
"""

import argparse
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from rewards import _math_verify
from rewards._latex import Malformed, TooCostly, Unsupported
from rewards._quotients import Undefined
from rewards._same import same
from rewards._spelling import normalize
from rewards._structure import Node, read
from rewards._text import extract, text_of

MAX_ANSWER = 1000  # characters: a longer final answer is junk
# a unit of one letter, which beside a formula would be a variable: 5 m, 5 m/s
LETTER_UNIT = re.compile(r"([+-]?[0-9][0-9.,/]*)[ ~]((?:[mgshLNJWVA]|km|cm)(?:/[sh])?)(\^(?:[23]|\{[23]\}))?")
UNFORESEEN = (ValueError, ArithmeticError, LookupError, RecursionError)
PATHS = ("exact", "structure", "algebra", "math_verify")


class Verdict(NamedTuple):
    """A score, who decided (one of PATHS, or ungradable, no_answer, refused, timeout), and why in words."""

    score: float | None
    path: str
    reason: str


def math_answer(
    completions, *, answer: list[str], log_metric: Callable[[str, float], None] | None = None, **_
) -> list[float | None]:
    r"""1.0 where a completion's final answer equals its row's gold answer, else 0.0; None where the gold can't be read.

    answer: one gold answer a completion, as bare LaTeX or plain text, such as "72", "1/2" or "\frac{1}{2}".
    log_metric: gets the shares of completions by who decided, and the seconds; the same names whatever the batch holds.
    Raises RuntimeError when math-verify is needed and can't be run: that is never the model's doing.
    """
    start = time.perf_counter()
    verdicts = judge([text_of(c) for c in completions], answer)
    if log_metric is not None:
        for name, value in metrics(verdicts, time.perf_counter() - start).items():
            log_metric(f"math_answer/{name}", value)
    return [v.score for v in verdicts]


def judge(texts: list[str], golds: list[str | None]) -> list[Verdict]:
    """A verdict for each completion. What needs math-verify goes there together, so that its workers share it."""
    verdicts, pending = [], {}
    for text, gold in zip(texts, map(as_text, golds), strict=True):
        if gold is None or not readable(gold):
            verdicts.append(Verdict(None, "ungradable", "the gold answer can't be read"))
            continue
        found, where = extract(text)
        verdict = Verdict(0.0, "no_answer", where) if found is None else compare(gold, found)
        if verdict.score is None:
            pending[len(verdicts)] = (plain(gold), plain(found))
        verdicts.append(verdict)
    results = undecided(list(dict.fromkeys(pending.values())))
    for i, pair in pending.items():
        if (equal := results[pair]) is None:
            verdicts[i] = Verdict(0.0, "timeout", "math-verify was killed over time or memory")
        else:
            verdicts[i] = Verdict(float(equal), "math_verify", f"math-verify says {'equal' if equal else 'different'}")
    return verdicts


def as_text(gold) -> str | None:
    """A gold answer as text; None for what is neither text nor a whole number, whose meaning would be a guess."""
    if isinstance(gold, int) and not isinstance(gold, bool):
        return str(gold) if abs(gold) < 10**MAX_ANSWER else None
    return gold if isinstance(gold, str) else None


_known: dict[tuple[str, str], bool | None] = {}  # what math-verify said


def undecided(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], bool | None]:
    new = [pair for pair in pairs if pair not in _known]
    if len(_known) > 20_000:
        _known.clear()
        new = pairs
    fresh = dict(zip(new, _math_verify.equal(new), strict=True))
    _known.update((pair, equal) for pair, equal in fresh.items() if equal is not None)  # a busy machine may relent
    return {pair: fresh[pair] if pair in fresh else _known[pair] for pair in pairs}


@lru_cache(maxsize=20_000)
def readable(gold: str) -> bool:
    """Whether a gold answer can be graded against."""
    try:
        node = read(gold) if len(gold) <= MAX_ANSWER else None
        if node and not (node.form and isinstance(node.form.quotient, Undefined)):
            return True
    except (Malformed, Unsupported, TooCostly):
        if _math_verify.refusal(plain(gold)) is None and plain(gold):
            return _math_verify.parses(plain(gold))
    except UNFORESEEN:
        pass
    return False


@lru_cache(maxsize=20_000)
def compare(gold: str, found: str) -> Verdict:
    """The verdict on a final answer; its score is None where math-verify has to be asked."""
    if len(found) > MAX_ANSWER:
        return Verdict(0.0, "refused", f"an answer of {len(found)} characters")
    try:
        return weigh(gold, found)
    except UNFORESEEN as error:  # model text must not end a training run: it is no answer, and counted as refused
        return Verdict(0.0, "refused", f"reading it raised {type(error).__name__}")


def weigh(gold: str, found: str) -> Verdict:
    if normalize(gold) == normalize(found):
        return Verdict(1.0, "exact", "both are written the same")
    sides, unread = [], ""
    for side, name in ((gold, "gold"), (found, "answer")):
        if sides and (sides[0].kind == "unit" or (sides[0].form and sides[0].form.rational is not None)):
            side = LETTER_UNIT.sub(r"\1\\text{ \2}\3", side) if LETTER_UNIT.fullmatch(side.strip("$. ")) else side
        try:
            sides.append(read(side))
        except TooCostly as error:
            return Verdict(0.0, "refused", f"{name}: {error}")
        except Unsupported as error:
            unread = f"the {name} has {error}"
        except Malformed as error:
            if name == "answer" and sides:
                return Verdict(0.0, "structure", f"the answer is no mathematics: {error}".replace("\0", ""))
            unread = f"the {name} is not read here"
    verdict = None if unread else same(*sides)
    if verdict is not None:
        return Verdict(float(verdict), path_of(*sides), "equal" if verdict else "different")
    for side in (gold, found):
        if refused := _math_verify.refusal(plain(side)):
            return Verdict(0.0, "refused", f"{unread or 'not decided exactly'}, and math-verify isn't asked: {refused}")
    return Verdict(None, "math_verify", unread or "not decided exactly")


def path_of(gold: Node, found: Node) -> str:
    if gold.form is None or found.form is None:
        return "structure"
    return "exact" if gold.form.rational is not None and found.form.rational is not None else "algebra"


def plain(answer: str) -> str:
    """An answer in the spelling that math-verify gets."""
    s = normalize(answer[: MAX_ANSWER + 1]).replace("\0degree\0", r"^\circ ").replace("\0", " ")
    return s.replace(r"\reals", r"\mathbb{R}").strip()


def metrics(verdicts: list[Verdict], seconds: float) -> dict[str, float]:
    """The same names for every batch, so that ranks can be averaged."""
    count = dict.fromkeys(("ungradable", "no_answer", *PATHS, "refused", "timeout"), 0)
    for verdict in verdicts:
        count[verdict.path] += 1
    share = {name: n / max(1, len(verdicts)) for name, n in count.items()}
    by_path = {f"by_{path}": share[path] for path in PATHS}
    rest = {"ungradable": share["ungradable"], "no_answer": share["no_answer"]}
    return rest | by_path | {"refused": share["refused"], "timeouts": share["timeout"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Explain how a completion is scored.")
    parser.add_argument("--gold", required=True, help="the row's answer, as bare LaTeX or plain text")
    parser.add_argument("--text", required=True, help="the whole completion")
    options = parser.parse_args()
    found, where = extract(options.text)
    (verdict,) = judge([options.text], [options.gold])
    shown = [normalize(side or "").replace("\0", '"')[:200] for side in (options.gold, found)]
    lines = [f"answer   {'none: ' if found is None else repr(found[:200]) + ', from '}{where}", f"gold     {shown[0]}"]
    if found is not None:
        lines.append(f"read as  {shown[1]}")
    lines += [f"decided  by {verdict.path}: {verdict.reason}", f"score    {verdict.score}"]
    print("\n".join(map(printable, lines)))


def printable(text: str) -> str:
    """Model text must not steer a terminal, nor fail on one that knows ASCII only."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    main()
