"""The repetition penalty of Demystifying Long Chain-of-Thought Reasoning (arXiv 2502.03373, appendix C.2), as in open-r1.

    -(1 - different n-grams / n-grams)

The n-grams are of 40 visible characters, where the paper takes 40 tokens and open-r1 a few words: with no words to cut,
leaving out spaces, breaking lines and changing case hide nothing. Loops score near -0.9, and of real solutions 1 in 100 below
-0.01 in GSM8K and -0.1 in MATH-500, whose algebra is rewritten line by line: benchmarks/style_rewards.py.

Gamed by a loop that changes every 40 characters, as by counting, and by saying nothing: both earn 0.0, the most there is.
At weight 0.2 a right answer still earns at least 0.8.
"""

import unicodedata

from rewards._text import text_of
from rewards.think_format import BLANK, UNSEEN

BEST = 0.0  # a penalty: what a completion without fault earns


def repetition_penalty(completions, *, ngram: int = 40, **_) -> list[float]:
    """Minus the share of the completion's n-grams that occurred before: 0.0 where none did, near -1.0 for a loop.

    ngram: visible characters. A completion with fewer scores 0.0.
    """
    if ngram < 1:
        raise ValueError(f"repetition_penalty: ngram={ngram} is not a number of characters from 1 up")
    return [score(text_of(c), ngram) for c in completions]


def score(text: str, ngram: int) -> float:
    text = "".join(c for c in text.casefold() if c not in BLANK and unicodedata.category(c) not in UNSEEN)
    total = len(text) - ngram + 1
    if total < 1:
        return 0.0
    # by hash: a megabyte of text without repetition would otherwise hold a hundred
    return len({hash(text[i : i + ngram]) for i in range(total)}) / total - 1.0
