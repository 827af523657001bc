r"""Anthropic's helpful and harmless pairs (arXiv 2204.05862): what people preferred of two answers of an assistant. MIT.

160,800 pairs to train on and 8,552 held out, of all four subsets. Pairs that part before the last answer are counted, not cut.
Raw row: {"chosen": "\n\nHuman: ...\n\nAssistant: ...", "rejected": ...}, two texts that share all turns but the last.
"""

from data import preferences

HUB = "Anthropic/hh-rlhf"
COLUMNS = preferences.SIDES
ONLY_BY_NAME = True
SPLITS = ("train", "test")

to_row, features, why = preferences.to_row, preferences.features, preferences.why
