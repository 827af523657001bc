"""UltraFeedback (arXiv 2310.01377), two of its four answers to each prompt: one of the best score, another at random. MIT.

61,135 pairs to train on and 2,000 held out. The two scores may be equal, and so may the answers: recipes leave the latter out.
trl-lib/ultrafeedback_binarized and argilla's cleaned copy are read by `path`, or by their names.
Raw row: {"prompt": str, "chosen": [user, assistant], "rejected": [user, assistant], "score_chosen": 8.0, "score_rejected": 6.5, ...}.
"""

from data import preferences

HUB = "HuggingFaceH4/ultrafeedback_binarized"
HUB_SPLITS = {"train": "train_prefs", "test": "test_prefs"}
COLUMNS = preferences.SIDES
ONLY_BY_NAME = True
SPLITS = ("train", "test", *HUB_SPLITS.values())

to_row, features, why = preferences.to_row, preferences.features, preferences.why
