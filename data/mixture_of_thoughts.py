r"""Mixture-of-Thoughts: 349,317 traces of DeepSeek-R1 on maths, code and science, with which open-r1 trains its 7B. No licence stated.

Raw row: {"messages": [user, assistant], "num_tokens": int, "source": str}, with "<think>\n...\n</think>\n\nthe answer".
"""

from data import cold_start

HUB = "open-r1/Mixture-of-Thoughts"
CONFIG = "all"
COLUMNS = ("messages",)
ONLY_BY_NAME = True
SPLITS = ("train",)

to_row, features, why = cold_start.to_row, cold_start.features, cold_start.why
