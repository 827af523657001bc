"""Programming problems as the public sets write them, as a prompt and tests: programs on stdin, functions that are called."""

import ast
import json
import math
import warnings

from datasets import Dataset

WHOLE = "Give the whole program in one ```python block."
STDIN = "Read the input from stdin and print the answer to stdout."
# what JSON has no word for comes back from a function: a tuple, a dictionary with keys that are numbers
SETUP = """import json
def as_json(value):
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    return value
"""
LONG = 1000  # characters of a value from which on it is written as text
DIGITS = 4000  # that Python reads at once; it refuses more than 4300
MOST_DIGITS = 100_000  # of a number, whose reading takes quadratic time
TOLERANCE = 1e-5  # of numpy.allclose, by which APPS and TACO compare what a program prints


def question(statement, *, starter=None, function: str | None = None, examples=()) -> str | None:
    """The statement, those (input, output) of `examples` that it doesn't show, and the form that the answer has to have."""
    if not isinstance(statement, str) or not statement.strip():
        return None
    parts = [statement.strip()]
    shown = "".join(statement.split())
    for given, wanted in examples:
        if not all("".join(line.split()) in shown for line in given.split("\n")):
            parts.append(f"Input:\n{given.strip()}\nOutput:\n{wanted.strip()}")
    if isinstance(starter, str) and starter.strip():
        parts.append(f"Complete this code:\n```python\n{starter.strip()}\n```")
    elif function:
        parts.append(f"Write the function `{function}`.")
    return "\n\n".join([*parts, WHOLE if function else f"{STDIN} {WHOLE}"])


def stdin(cases: list[tuple], time_limit: float, float_tolerance: float | None = None) -> dict | None:
    """The tests of a program, from its (input, output), each text or a list of lines; None where one is neither."""
    texts = [(joined(given), joined(wanted)) for given, wanted in cases]
    if not texts or any(None in pair for pair in texts):
        return None
    tests = {"type": "stdin", "cases": [{"input": i, "output": o} for i, o in texts], "time_limit": time_limit}
    return tests | ({"float_tolerance": float_tolerance} if float_tolerance else {})


def joined(lines) -> str | None:
    """Text, or lines as text. Raises UnicodeEncodeError for half of a surrogate pair, which no program can be given."""
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        lines = "\n".join(lines)
    if not isinstance(lines, str):
        return None
    lines.encode()
    return lines


def calls(function, starter, cases: list[tuple], time_limit: float) -> dict | None:
    """The tests of a function, a method where the starter code has a class Solution, from its (arguments, value)."""
    if not isinstance(function, str) or not function.isidentifier() or not cases:
        return None
    if not all(isinstance(arguments, list) for arguments, _ in cases):
        return None
    entry = f"Solution().{function}" if "class Solution" in (starter or "") else function
    asserts = [f"assert as_json({entry}({', '.join(map(literal, a))})) == {literal(value)}" for a, value in cases]
    return {"type": "assert", "setup": SETUP, "asserts": asserts, "time_limit": time_limit}


def literal(value) -> str:
    """A value of JSON as Python source.

    A long one as its text: the tests' syntax tree of a list of 100,000 numbers would take longer than the program. A whole
    number that is too long for decimal digits in hexadecimal ones.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = ""
    return f"json.loads({text!r})" if len(text) > LONG and not isinstance(value, dict) else _source(value)


def _source(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_source(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_source, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            raise ValueError("a test with NaN, which equals nothing")
        return "1e999" if value > 0 else "-1e999"
    return hex(value) if type(value) is int and abs(value) >= 10**DIGITS else repr(value)


def inputs_and_outputs(raw: dict, time_limit: float) -> tuple[dict | None, str | None]:
    """(tests, the function's name) of a row of APPS or TACO, whose `input_output` is {"inputs", "outputs", "fn_name"?}.

    Functions of Codewars have their value in a list, those of the other sites as it is. JSON made the keys of a dictionary
    text; those of an argument become numbers again where they can, as in the sets' own checkers.
    """
    found = loads(raw["input_output"]) if raw["input_output"] else None
    if not isinstance(found, dict) or not isinstance(found.get("inputs"), list):
        return None, None
    inputs, outputs, function = found["inputs"], found.get("outputs"), found.get("fn_name")
    if not isinstance(outputs, list) or len(inputs) != len(outputs):
        return None, function
    if not function:
        return stdin(list(zip(inputs, outputs, strict=True)), time_limit, TOLERANCE), None
    site = f"{raw.get('source')} {raw.get('url')}".lower()
    if "codewars" in site and all(isinstance(o, list) and len(o) == 1 for o in outputs):
        outputs = [o[0] for o in outputs]
    inputs = [[_with_numbers(a) for a in i] if isinstance(i, list) else i for i in inputs]
    starter = raw["starter_code"] or solution(raw["solutions"])
    return calls(function, starter, list(zip(inputs, outputs, strict=True)), time_limit), function


def _with_numbers(argument):
    if not isinstance(argument, dict) or not all(k.removeprefix("-").isdecimal() for k in argument):
        return argument
    return {int(k): v for k, v in argument.items()}


def solution(solutions) -> str | None:
    """The first of a list, or of its JSON, that is Python 3."""
    solutions = (loads(solutions) if isinstance(solutions, str) and solutions else solutions) or []
    return next((s for s in solutions if isinstance(s, str) and s.strip() and is_python(s)), None)


def is_python(code: str) -> bool:
    try:
        with warnings.catch_warnings():  # of its escape sequences
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def loads(text):
    """The value of JSON text, in which numbers may be longer than Python reads by itself; what isn't text, as it is.

    Raises ValueError where the text isn't JSON.
    """
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    value = 0
    for piece in (digits.lstrip("-")[i : i + DIGITS] for i in range(0, len(digits), DIGITS)):
        value = value * 10 ** len(piece) + int(piece or "0")
    return -value if digits.startswith("-") else value


def of_difficulty(raw: Dataset, wanted: list[str] | None, known: tuple[str, ...]) -> Dataset:
    """The problems of these difficulties, all where None. Raises ValueError where `wanted` names none, or another."""
    if wanted is None:
        return raw
    if not isinstance(wanted, list | tuple) or not wanted or not set(wanted) <= set(known):
        raise ValueError(f"difficulty={wanted!r} must be some of {list(known)}")
    return raw.filter(lambda difficulty: difficulty in wanted, input_columns="difficulty")
