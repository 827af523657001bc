"""What a set's `to_row` makes of raw cells: messages, a question with its gold, a program with its tests; and what a row lacks."""

import json

from datasets import Features, List, Value

MESSAGES = List({"role": Value("string"), "content": Value("string")})
# the types of what `to_row` gives, by kind: a thousand broken rows in front would leave them unknown
PROBLEM = Features({"prompt": MESSAGES, "answer": Value("string")})
# `tests` as JSON: sets mix programs and functions, which have no type in common, and hold inputs of megabytes
PROGRAM = Features({"prompt": MESSAGES, "tests": Value("large_string"), "solution": Value("string")})
SHAREGPT = {"human": "user", "gpt": "assistant"}
LACKS = {"answer": "no answer", "tests": "no tests", "completion": "no completion"}


class Unreadable(ValueError):
    """A row that a `to_row` can't read, and what is wrong with it, in words that follow "have"."""


def problem(question, answer) -> dict:
    """A question and its gold as a reward takes it; `prompt` is [] and `answer` None where there is none, or it isn't text."""
    prompt = asked(question)
    return {"prompt": prompt, "answer": as_text(answer) if prompt else None}


def program(question, tests: dict | None, solution=None) -> dict:
    """A programming problem, its `tests` (rewards/code_tests.py) and, where the set has one, a solution that passes them."""
    return {
        "prompt": asked(question),
        "tests": None if tests is None else json.dumps(tests, ensure_ascii=False),
        "solution": solution if isinstance(solution, str) and solution.strip() else None,
    }


def asked(question) -> list[dict]:
    """The user's one message; [] where there is nothing in it."""
    return [{"role": "user", "content": question.strip()}] if isinstance(question, str) and question.strip() else []


def as_text(answer) -> str | None:
    """An answer as a reward takes it: 21 and 21.0 are "21", ["21"] is "21", blanks are None."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    return (str(answer).strip() or None) if isinstance(answer, str | int | float) else None


def messages(value: str | list[dict] | None) -> list[dict]:
    """A conversation, of which text is the user's one message; [] where it is neither. No content counts as no text.

    ShareGPT's {"from": "human", "value": ...} is a message too.
    """
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list) and all(isinstance(m, dict) and {"from", "value"} <= m.keys() for m in value):
        value = [{"role": SHAREGPT.get(m["from"], m["from"]), "content": m["value"]} for m in value]
    if not isinstance(value, list) or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value):
        return []
    found = [{"role": m["role"], "content": m.get("content") or ""} for m in value]
    return found if all(isinstance(m["content"], str) for m in found) else []


def why(row: dict) -> str | None:
    """What a row lacks, that could not be read."""
    if not row["prompt"]:
        return "no prompt"
    return next((lack for column, lack in LACKS.items() if column in row and row[column] is None), None)
