"""Is the completion one block of thoughts and then one answer, and nothing else?"""

import re
import string
import unicodedata

from rewards._text import PLACEHOLDER, ZERO_WIDTH, text_of

BLANKS = string.whitespace + ZERO_WIDTH
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
UNSEEN = {"Cf", "Cc", "Cs", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"}  # marks need a letter
PUNCTUATION = {"Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps"}  # dots and dashes are no thoughts
BLANK = set("\u115f\u1160\u2800\u3164\uffa0")  # letters and signs by category, blank in print
# what R1-Zero's template shows between the tags: copying it is not thinking
TEMPLATE_THOUGHTS = re.compile(
    r"(?:(?:insert|put|write|your|the|my|all|detailed|step[- ]by[- ]step)\s+)*(?:reasoning|thinking|thoughts?)"
    r"(?:\s+process)?(?:\s+(?:goes\s+|go\s+)?here)?",
    re.I,
)


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
    return not any(part.strip(BLANKS) for part in outside) and all(map(visible, bodies))


def visible(body: str) -> bool:
    """Whether a reader would see more than the template's own words, bracketed or not, or punctuation."""
    hidden = UNSEEN | PUNCTUATION
    seen = "".join(" " if c in BLANK or unicodedata.category(c) in hidden else c for c in body)
    words = " ".join(seen.split())
    return bool(words) and not PLACEHOLDER.fullmatch(words) and not TEMPLATE_THOUGHTS.fullmatch(words)
