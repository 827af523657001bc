"""TRL's unpaired preferences, answers with a label each, as pairs: of one prompt, the n-th true answer and the n-th false one.

13,500 answers to train on and 1,500 held out, no licence stated. A file of TRL's unpaired form is recognised. An answer that
is left over is a row that can't be read, and counted as such.
Raw row: {"prompt": [user], "completion": [assistant], "label": bool}, or text for messages.
"""

import json
from itertools import zip_longest

from datasets import Dataset, Features, Value

from data import _source, preferences

HUB = "trl-lib/kto-mix-14k"
REVISION = "4470f033f33364e7d064c9f920c3df54d0cce767"
COLUMNS = ("prompt", "completion", "label")
SPLITS = ("train", "test")
PAIR = ("prompt", *preferences.SIDES, _source.UNREADABLE)
NO_LABEL = "no label that is true or false"
LEFT_OVER = "no answer of the other label to their prompt"


def fits(raw: Dataset) -> bool:
    """Whether the labels are truth values; a set of demonstrations may have others."""
    return any(isinstance(label, bool) for label in raw["label"])


def select(raw: Dataset) -> Dataset:
    """The answers as pairs, in the order of their prompts; what is in no pair says why in `unreadable`."""
    answers, pairs = {}, []
    for row in raw:
        of_prompt = answers.setdefault(json.dumps(row["prompt"]), (row["prompt"], {True: [], False: []}))
        if row.get(_source.UNREADABLE) or not isinstance(row["label"], bool):
            pairs.append((row["prompt"], None, None, row.get(_source.UNREADABLE) or NO_LABEL))
        else:
            of_prompt[1][row["label"]].append(row["completion"])
    for prompt, labelled in answers.values():
        n = min(map(len, labelled.values()))
        for i, sides in enumerate(zip_longest(labelled[True], labelled[False])):
            pairs.append((prompt, *sides, None if i < n else LEFT_OVER))
    types = [raw.features["prompt"], *[raw.features["completion"]] * 2, Value("string")]
    rows = [dict(zip(PAIR, pair, strict=True)) for pair in pairs]
    return Dataset.from_list(rows, features=Features(zip(PAIR, types, strict=True)))


to_row, features, why = preferences.to_row, preferences.features, preferences.why
