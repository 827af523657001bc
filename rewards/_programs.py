"""The program that a completion commits to: the last closed ```python fence of its answer."""

import ast
import re
import warnings

MAX_CODE = 1 << 20  # characters
PYTHON = ("python", "py", "pypy")
LANGUAGE = re.compile(r"[\s{.]*([a-z+#]*)")  # python of python3.11, {.python} and python:main.py
MARKER = re.compile(r"\s*(?:(?:[-*+]|\d{1,3}[.)])\s+)?\ufeff?")  # a list item may begin with a fence
TAG = re.compile("</?(?:think|answer)>")


def extract(text: str) -> str | None:
    """The program, or None: of tagged fences the last, else of those without a tag; never one of the thoughts.

    Tags in a program's own text are none of the completion's: where the fence that they would cut is closed, they count as
    program.
    """
    thoughts_end = text.rfind("</think>")
    if text.rfind("<think>") <= thoughts_end and (found := program_in(text[max(0, thoughts_end) :])) is not None:
        return found
    start = text.find("</think>")
    rest = text[start + len("</think>") :] if start >= 0 else text
    hidden = without_programs(rest)
    end = hidden.rfind("</think>")
    if hidden.rfind("<think>") > end:
        return None
    at = end + len("</think>") if end >= 0 else 0
    return program_in(rest[at:], hidden[at:])


def program_in(text: str, hidden: str | None = None) -> str | None:
    """The program of an answer, within its last <answer> block where it has one. hidden: the text to look for tags in."""
    hidden = text if hidden is None else hidden
    end = hidden.rfind("</answer>")
    start = hidden.rfind("<answer>", 0, end) if end >= 0 else -1
    found = fences(text[start + len("<answer>") : end] if start >= 0 else text)
    tagged = [code for tag, code, _ in found if tag in PYTHON] or [code for tag, code, _ in found if not tag]
    code = tagged[-1].lstrip("\ufeff") if tagged else ""
    return code if code.strip() and len(code) <= MAX_CODE and not is_stub(code) else None


def is_stub(code: str) -> bool:
    """Whether it defines functions and none of them does anything: starter code, which some tests may pass."""
    if len(code) > 10_000:
        return False
    try:
        with warnings.catch_warnings():  # of a program's own escape sequences: model text is not for the log
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    functions = [n for n in nodes if isinstance(n, kinds)]
    if any(isinstance(n, ast.ClassDef) and not any(isinstance(m, kinds) for m in n.body) for n in nodes):
        return False  # class MyError(ValueError): pass
    return bool(functions) and all(idle(statement) for function in functions for statement in function.body)


def idle(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def without_programs(text: str) -> str:
    """The text with the insides of its closed fences blanked out, at the same length."""
    pieces, at = [], 0
    for _, _, (start, end) in fences(text):
        pieces += [text[at:start], TAG.sub(lambda m: " " * len(m[0]), text[start:end])]
        at = end
    return "".join([*pieces, text[at:]])


def fences(text: str) -> list[tuple[str, str, tuple[int, int]]]:
    """(language in lower case, contents, where they are) of each closed Markdown fence, in one pass."""
    found, opening, language, indent, body = [], "", "", 0, []
    position = start = 0
    for line in text.split("\n"):
        begin = MARKER.match(line).end() if not opening else len(line) - len(line.lstrip())
        mark = line[begin:].strip()
        count = len(mark) - len(mark.lstrip(mark[:1])) if mark[:1] in ("`", "~") else 0
        if not opening:
            if count >= 3 and "`" not in mark[count:]:
                opening, body, start = mark[:count], [], position + len(line) + 1
                indent = begin - line[:begin].count("\ufeff")
                language = LANGUAGE.match(mark[count:].lower())[1]
        elif mark[:1] == opening[0] and count >= len(opening) and count == len(mark):
            found.append((language, "\n".join(body), (start, position)))
            opening = ""
        else:
            body.append(line[min(indent, len(line) - len(line.lstrip())) :])
        position += len(line) + 1
    return found
