"""The output of a program that was run, compared with what a test expects."""

import math
import re
from decimal import Decimal

from rewards._sandbox.pool import Outcome

DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)


def outcome_is_right(outcome: Outcome, expected: str, tolerance: float | None) -> bool:
    return outcome.why == "ended" and outcome.code == 0 and same_output(outcome.output, expected, tolerance)


def same_output(output: bytes, expected: str, tolerance: float | None = None) -> bool:
    """Line by line, but for blanks at the end of a line and empty lines at the end; 2.50 equals 2.5, exactly.

    tolerance: the absolute or relative difference up to which two numbers are equal, where one is a decimal fraction.
    """
    given, wanted = lines_of(output.decode("utf-8", "replace")), lines_of(expected)
    return len(given) == len(wanted) and all(same_line(g, w, tolerance) for g, w in zip(given, wanted, strict=True))


def lines_of(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def same_line(given: str, wanted: str, tolerance: float | None) -> bool:
    if given == wanted:
        return True
    ours, theirs = given.split(" "), wanted.split(" ")
    return len(ours) == len(theirs) and all(same_token(g, w, tolerance) for g, w in zip(ours, theirs, strict=True))


def same_token(given: str, wanted: str, tolerance: float | None) -> bool:
    """Equal as text or, where one is a decimal fraction, as exact numbers: floats would merge large integers."""
    if given == wanted:
        return True
    if not any(c in given + wanted for c in (".eE" if tolerance else ".")):
        return False
    if max(len(given), len(wanted)) > 1000 or not (DECIMAL.fullmatch(given) and DECIMAL.fullmatch(wanted)):
        return False
    if tolerance is not None:
        return math.isclose(float(given), float(wanted), rel_tol=tolerance, abs_tol=tolerance)
    return Decimal(given) == Decimal(wanted)
