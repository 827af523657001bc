"""Is the completion one block of thoughts and then one answer, and nothing else?"""

import unicodedata

from rewards._text import text_of

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
UNSEEN = {"Cf", "Cc", "Cs", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"}  # marks need a letter
BLANK = set("\u115f\u1160\u2800\u3164\uffa0")  # letters and signs by category, blank in print
# what R1-Zero's template shows between the tags: copying it is not thinking
PLACEHOLDERS = {"reasoning process here", "answer here"}


def think_format(completions, *, prefilled_think: bool | list[bool] = False, **_) -> list[float]:
    """1.0 where the completion is `<think>...</think><answer>...</answer>`, else 0.0 (the format reward of 2501.12948).

    Each tag once and in this order, white space alone around and between the blocks, both bodies visibly non-empty.
    Give it a small weight beside the accuracy reward: a well-formed wrong answer must not beat a right one.

    prefilled_think: the prompt ends in <think>, so the completion starts inside the thoughts. One bool, or one a row.
    """
    if isinstance(prefilled_think, bool):
        prefilled_think = [prefilled_think] * len(completions)
    return [
        float(well_formed(text_of(c), prefilled)) for c, prefilled in zip(completions, prefilled_think, strict=True)
    ]


def well_formed(text: str, prefilled: bool = False) -> bool:
    if prefilled:
        text = TAGS[0] + text
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    parts = []
    for tag in TAGS:
        before, found, text = text.partition(tag)
        if not found:
            return False
        parts.append(before)
    outside, bodies = (parts[0], parts[2], text), (parts[1], parts[3])
    return not any(part.strip() for part in outside) and all(visible(b) for b in bodies)


def visible(body: str) -> bool:
    """Whether a reader would see anything but the template's own words: zero-width and control characters don't count."""
    if body.strip().rstrip(" .!").casefold() in PLACEHOLDERS:
        return False
    return any(c not in BLANK and unicodedata.category(c) not in UNSEEN for c in body)
