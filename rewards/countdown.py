"""Does the final answer reach the target with each given number exactly once?"""

import ast
import operator
import re
from fractions import Fraction

from rewards._text import final_answer, text_of

MAX_ANSWER = 200  # characters
SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def countdown(completions, *, target: list[int], nums: list[list[int]], **_) -> list[float | None]:
    """1.0 where the answer is an expression in + - * / and parentheses that uses every number once and equals the target.

    `expression = target` counts too. None where the row has no target or no numbers. The arithmetic is exact, and done on
    the syntax tree: model text is never evaluated.
    """
    return [score(text_of(c), t, n) for c, t, n in zip(completions, target, nums, strict=True)]


def score(text: str, target: int | None, nums: list[int] | None) -> float | None:
    if target is None or not nums:
        return None
    found = final_answer(text)
    if found is None or len(found) > MAX_ANSWER:
        return 0.0
    found = (
        found.translate(SPELLINGS).replace("\\times", "*").replace("\\cdot", "*").replace("\\div", "/").strip("$ \n")
    )
    expression, equals, result = found.partition("=")
    if equals and result.strip() != str(target):
        return 0.0
    if not re.fullmatch(r"[\d\s+\-*/()]+", expression, re.ASCII):
        return 0.0
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        used: list[int] = []
        value = evaluate(tree, used)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return 0.0
    return float(value == target and sorted(used) == sorted(nums))


def evaluate(node: ast.expr, used: list[int]) -> Fraction:
    """The exact value of an expression; the numbers in it are added to `used`. Raises ValueError for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](evaluate(node.left, used), evaluate(node.right, used))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -evaluate(node.operand, used)
    raise ValueError(f"{type(node).__name__} is not arithmetic")
