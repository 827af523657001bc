"""OpenThoughts-114k (arXiv 2506.04178): 113,957 traces of DeepSeek-R1 on maths, code, science and puzzles. Apache-2.0.

Its tags become <think> and <answer>; its system text, which asks for the others, is dropped. Answers weren't all checked. Bespoke-Stratos
and OpenThoughts3 are read by `path`. Raw row: {"system": str, "conversations": [{"from": "user", "value": str}, {"from": "assistant",
"value": "<|begin_of_thought|>...<|end_of_thought|><|begin_of_solution|>...<|end_of_solution|>"}]}, or human and gpt.
"""

from datasets import Features

from data import _rows, cold_start

HUB = "open-thoughts/OpenThoughts-114k"
CONFIG = "default"
COLUMNS = ("conversations",)
ONLY_BY_NAME = True
SPLITS = ("train",)
GIVES = Features(dict.fromkeys(("prompt", "completion"), _rows.MESSAGES))
TAGS = {
    "<|begin_of_thought|>": "<think>",
    "<|end_of_thought|>": "</think>",
    "<|begin_of_solution|>": "<answer>",
    "<|end_of_solution|>": "</answer>",
}


def to_row(raw: dict) -> dict:
    turns = [m for m in _rows.messages(raw["conversations"]) if m["role"] != "system"]
    for theirs, ours in TAGS.items() if turns else ():
        turns[-1]["content"] = turns[-1]["content"].replace(theirs, ours)
    return cold_start.to_row({"messages": turns})


why = cold_start.why
