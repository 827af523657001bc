r"""Decontamination, the option `decontaminate: [math500, gsm8k:test, mine.jsonl]`: without the rows that share wording with these sets.

Two questions overlap when they share SIZE words in a row (n-grams, as in GPT-3's appendix C, arXiv 2005.14165), or, where
one is shorter, when they are the same. Words are what is left of a text in lower case when all but letters and digits are
spaces: `\frac{1}{2}` is "frac 1 2". An n-gram that stands in more than WORDING questions of one set is the set's own wording,
such as "give the whole program in one python block", and counts for nothing. A paraphrase is not found, nor a translation.
What is compared is the text of the user's turns, before any template; the sets compared with are held as numbers, 8 bytes a word.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from datasets import Dataset

SIZE = 8
WORDING = 5
WORD = re.compile(r"[^\W_]+")


def check(others) -> None:
    """Raises ValueError where the option isn't a list of names."""
    if not isinstance(others, list | tuple) or not others or not all(isinstance(other, str) for other in others):
        raise ValueError(
            f"decontaminate={others!r} must be a list of sets or files, such as [math500, 'gsm8k:test', mine.jsonl]"
        )


def parsed(other: str) -> tuple[str, str]:
    """(name, split) of `gsm8k:train`; the split is test where none is named."""
    name, _, split = other.partition(":")
    return name, split or "test"


def words(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def grams(text: str) -> set[int]:
    """The n-grams of a text, as numbers; a text of fewer words is one."""
    found = words(text)
    if len(found) < SIZE:
        return {hash(tuple(found))} if found else set()
    return {hash(tuple(found[i : i + SIZE])) for i in range(len(found) - SIZE + 1)}


def asked(prompt: str | list[dict]) -> str:
    """What the user says of a prompt."""
    return prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt if m["role"] == "user")


class Index:
    """The n-grams of some sets, and of each a question that it stands in."""

    def __init__(self, sets: list[tuple[str, Dataset]]):
        self.where: dict[int, tuple[str, int]] = {}
        for name, rows in sets:
            first = {}
            for i, prompt in enumerate(rows["prompt"]):
                first.setdefault(asked(prompt), i)  # a set may hold each question several times
            of_questions = [(i, grams(text)) for text, i in first.items()]
            often = Counter(gram for _, found in of_questions for gram in found)
            for i, found in of_questions:
                for gram in found:
                    if often[gram] <= WORDING:
                        self.where.setdefault(gram, (name, i))

    def overlaps(self, rows: Dataset) -> Iterator[tuple[int, str, int]]:
        """(row, set, its row) for each row that shares an n-gram with a set's: the first of those it shares."""
        i = 0
        for batch in rows.select_columns("prompt").iter(1000):
            for prompt in batch["prompt"]:
                text = asked(prompt)
                if found := next((self.where[gram] for gram in grams(text) if gram in self.where), None):
                    yield i, *found
                i += 1


def without(rows: Dataset, others: list[tuple[str, Dataset]]) -> tuple[Dataset, str]:
    """The rows that overlap with none of these sets, and how many do with each, in words."""
    found = list(Index(others).overlaps(rows))
    gone = {i for i, _, _ in found}
    counts = Counter(name for _, name, _ in found)
    said = ", ".join(f"{counts[name]:,} with {name}" for name, _ in others)
    return rows.select(
        [i for i in range(len(rows)) if i not in gone]
    ), f"less {len(gone):,} of {len(rows):,} that overlap: {said}"
