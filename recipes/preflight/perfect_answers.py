"""Perfect answers: the completion that a row's gold deserves, which every reward has to pay in full if it is wired right."""

import itertools
from fractions import Fraction

THOUGHTS = "I work it out step by step."


def completion(row: dict, prefilled_think: bool = False, of_reward=None) -> str | None:
    """The row's gold in thoughts and answer tags; None where it has none that a completion could be made of.

    prefilled_think: the prompt ends in <think>, so the completion begins inside the thoughts.
    of_reward: the reward's own `perfect(row)`, which is used instead.
    """
    if of_reward is not None:
        return of_reward(row)
    if row.get("target") is not None and row.get("nums"):
        answer = countdown(row["nums"], row["target"])
    elif row.get("tests") and row.get("solution"):
        answer = f"\n```python\n{row['solution']}\n```\n"
    else:
        answer = row.get("answer")
    return answer and f"{'' if prefilled_think else '<think>'}{THOUGHTS}</think><answer>{answer}</answer>"


def countdown(nums: list[int], target: int) -> str | None:
    """An expression in + - * / and parentheses that uses each number once and equals the target; None if there is none."""

    def search(values: list[tuple[Fraction, str]]) -> str | None:
        if len(values) == 1:
            return values[0][1] if values[0][0] == target else None
        for (i, (x, a)), (j, (y, b)) in itertools.permutations(enumerate(values), 2):
            rest = [v for k, v in enumerate(values) if k not in (i, j)]
            results = [(x - y, f"({a} - {b})")] + ([(x / y, f"({a} / {b})")] if y else [])
            if i < j:
                results += [(x + y, f"({a} + {b})"), (x * y, f"({a} * {b})")]
            for result in results:
                if found := search([*rest, result]):
                    return found
        return None

    return search([(Fraction(n), str(n)) for n in nums])
