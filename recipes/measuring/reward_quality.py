"""How well a reward model's scores agree with preferences: pairs, calibration, length, and where it sees the first error."""

import math
from statistics import StatisticsError, correlation, fmean

from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset

from recipes.shared import reward_models, tokens

BINS = 10


def quality(model, kind: reward_models.Kind, rows: Dataset, tokenizer, batch_size: int) -> dict:
    """How well the scores of held-out pairs agree with the preferences. Every process does its share and gets all results.

    pair_accuracy: share of pairs whose chosen answer has the higher return, ties counting half.
    calibration_error: the expected calibration error (arXiv 1706.04599) of P(chosen) = sigmoid of the difference, over 10 bins.
    score_length_correlation: Pearson's, of return and tokens; length_label_correlation: of chosen (1 or 0) and tokens, which
    is what the data itself would teach.
    first_error_hit_rate: share of rejected answers whose lowest-scored step is the first wrong one (the row's first_error);
    first_error_chance: the same for a step picked at random.
    """
    ends_line, was_training = reward_models.line_ends(tokenizer, kind), model.training
    model.eval()
    prompts = tokens.prompt_ids(rows["prompt"], tokenizer)
    answers = {c: tokens.completion_ids(rows[c], rows["prompt"], tokenizer) for c in ("chosen", "rejected")}
    found = []
    with PartialState().split_between_processes(list(range(len(rows)))) as mine:
        scored = {
            c: reward_models.score(
                model, kind, ends_line, [prompts[i] for i in mine], [ids[i] for i in mine], batch_size
            )
            for c, ids in answers.items()
        }
        returns = zip(scored["chosen"][0], scored["rejected"][0], strict=True)
        found = list(zip(mine, returns, scored["rejected"][1] or [None] * len(mine), strict=True))
    model.train(was_training)
    found = gather_object(found)
    differences = [chosen - rejected for _, (chosen, rejected), _ in found]
    lengths = [len(answers[c][i]) for c in answers for i, _, _ in found]
    values = [pair[side] for side in (0, 1) for _, pair, _ in found]
    result = {
        "rows": len(rows),
        "pair_accuracy": fmean((d > 0) + 0.5 * (d == 0) for d in differences),
        "margin": fmean(differences),
        "calibration_error": calibration_error(differences),
        "score_length_correlation": _correlation(values, lengths),
        "length_label_correlation": _correlation([1.0] * len(found) + [0.0] * len(found), lengths),
    }
    if kind.level == "step" and "first_error" in rows.column_names:
        whole, errors = [tokens.text_of(r) for r in rows["rejected"]], rows["first_error"]
        texts = tokens.continuations(whole, tokens.prompt_texts(rows["prompt"], tokenizer), ended=False)
        hits, chances = [], []
        for i, _, steps in found:
            if errors[i] is not None:
                in_prompt = len(whole[i]) - len(texts[i])
                wrong = _token_at(texts[i], errors[i] - in_prompt, tokenizer)
                first_wrong = next(end for end, _ in steps if end >= wrong)
                hits.append(min(steps, key=lambda s: s[1])[0] == first_wrong)
                chances.append(1 / len(steps))
        result |= {"first_error_hit_rate": fmean(hits), "first_error_chance": fmean(chances)} if hits else {}
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in result.items()}


def calibration_error(differences: list[float]) -> float:
    """Mean gap between how sure the model is of the answer it prefers, 0.5 to 1, and how often that is the chosen one."""
    bins = [[] for _ in range(BINS)]
    for d in differences:
        sure = 1 / (1 + math.exp(-abs(d)))
        bins[min(int((sure - 0.5) * 2 * BINS), BINS - 1)].append((sure, (d > 0) + 0.5 * (d == 0)))
    gaps = [len(b) * abs(fmean(sure for sure, _ in b) - fmean(right for _, right in b)) for b in bins if b]
    return sum(gaps) / len(differences)


def _correlation(xs: list[float], ys: list[float]) -> float | None:
    try:
        return correlation(xs, ys)
    except StatisticsError:  # all the same
        return None


def _token_at(text: str, offset: int, tokenizer) -> int:
    """The token that holds the character, or the end token, where the text stops too early."""
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return next((i for i, (_, end) in enumerate(spans) if end > offset), len(spans))
