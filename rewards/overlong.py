"""DAPO's soft overlong punishment (arXiv 2503.14476, equation 13): completions that come near the limit lose reward.

    n tokens earn 0 up to max_length - cache, then (max_length - cache - n) / cache, and -1 beyond max_length

Gamed by being short: no answer at all earns 0.0, the most there is. At weight 0.5 (DAPO's own proportion: its answers earn
-1 or 1, ours 0 or 1) that pays less than any right answer, which has at least 0.5 left.
"""

from rewards._text import text_of

BEST = 0.0  # a penalty: what a completion without fault earns


def overlong(
    completions, *, completion_ids: list[list[int]] | None = None, max_length: int = 0, cache: int = 0, **_
) -> list[float]:
    """0.0 to -1.0, by the number of tokens in `completion_ids`, the end token included, as TRL passes them.

    max_length: tokens from which the full penalty is due; the trainer's max_completion_length, or less.
    cache: tokens before max_length over which the penalty grows.
    """
    if not 0 < cache <= max_length:
        raise ValueError(
            f"overlong: max_length={max_length} and cache={cache} are not 0 < cache <= max_length: set them in tokens, "
            "such as reward_options: {overlong: {max_length: 512, cache: 128}}"
        )
    if completion_ids is None:
        if any(map(text_of, completions)):
            raise ValueError("overlong counts tokens: it needs completion_ids, the tokens of each completion")
        return [0.0] * len(completions)  # the question whether the rows can be graded
    return [score(len(ids), max_length, cache) for _, ids in zip(completions, completion_ids, strict=True)]


def score(tokens: int, max_length: int, cache: int) -> float:
    return min(0.0, max(-1.0, (max_length - cache - tokens) / cache))
