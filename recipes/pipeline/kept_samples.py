"""The completions that are worth keeping: those to imitate, pairs for DPO, or all, each as a row of a dataset; or the prompts."""

from collections import Counter
from statistics import fmean

# columns of a row that belong to answers other than those sampled here
OTHERS = {"prompt", "completion", "chosen", "rejected", "messages", "flaw", "first_error", "unreadable"}
# in addition to the run's first reward, its accuracy, in full: what a trace has to earn at least. On GSM8K's and MATH-500's own
# solutions the last two refuse 1 of 7,973 (benchmarks/style_rewards.py)
ACCEPT = {"think_format": 1.0, "language_consistency": 0.9, "repetition_penalty": -0.3}


def rows_to_keep(
    keep: str,
    sources: list[dict],
    groups: list[list[dict]],
    accept: dict[str, float],
    most: int,
    band: list[float] | None = None,
) -> tuple[list[dict], Counter]:
    """The rows that `keep` (accepted, pairs, all or band) makes of each prompt's completions, and why others were refused.

    sources: the dataset's row of each group, before the template.
    """
    written, refused = [], Counter()
    for source, group in zip(sources, groups, strict=True):
        prompt, columns = {"prompt": source["prompt"]}, {c: v for c, v in source.items() if c not in OTHERS}
        if keep == "band":
            rate = pass_rate(group)
            if in_band(rate, band):
                written.append(prompt | columns | {"pass_rate": rate, "samples": len(group)})
            continue
        if keep == "pairs":
            written += best_against_worst(prompt, columns, group)
            continue
        kept, reasons = accepted(group, accept, most) if keep == "accepted" else (group, [])
        refused.update(reasons)
        written += [every_one(prompt, columns, one) for one in kept]
    return written, refused


def pass_rate(group: list[dict]) -> float:
    """The share of a prompt's completions that are right."""
    return fmean(one["right"] for one in group)


def in_band(rate: float, band: list[float] | None) -> bool:
    """Whether a prompt is neither always nor never solved, or is within a band, its ends included."""
    return 0 < rate < 1 if band is None else band[0] <= rate <= band[1]


def accepted(group: list[dict], accept: dict[str, float], most: int) -> tuple[list[dict], list[str]]:
    """The completions of a prompt that are worth imitating, and of each other one the first reason against it."""
    kept, reasons = [], []
    for one in group:
        short = [name for name, least in accept.items() if not enough(one, name, least)]
        if not one["finished"]:
            reasons.append("unfinished")
        elif short:
            reasons.append(short[0])
        elif any(one["text"].strip() == other["text"].strip() for other in kept):
            reasons.append("repeated")
        elif len(kept) == most:
            reasons.append("over most")
        else:
            kept.append(one)
    return kept, reasons


def enough(one: dict, name: str, least: float) -> bool:
    """Whether a completion earns that; a reward that its row isn't for, in a mixture, asks that it is right by its own."""
    paid = one["rewards"][name]
    return one.get("right", False) if paid is None else paid >= least


def every_one(prompt: dict, columns: dict, one: dict) -> dict:
    """The row of one completion."""
    return prompt | {"completion": message(one)} | columns | {k: one[k] for k in ("reward", "rewards", "finished")}


def best_against_worst(prompt: dict, columns: dict, group: list[dict]) -> list[dict]:
    """The row of one prompt, in a list: none where no completion that came to its end earns more than another."""
    answers = [one for one in group if one["text"].strip()]
    best = max((one for one in answers if one["finished"]), key=lambda one: one["reward"], default=None)
    worst = min(answers, key=lambda one: one["reward"], default=None)
    if best is None or best["reward"] <= worst["reward"]:
        return []
    pair = {"chosen": message(best), "rejected": message(worst)}
    return [prompt | pair | columns | {"chosen_reward": best["reward"], "rejected_reward": worst["reward"]}]


def message(one: dict) -> list[dict]:
    return [{"role": "assistant", "content": one["text"]}]


def yields(keep: str, written: list, sampled: int, prompts: int, refused: Counter, accept: dict) -> dict:
    """The part of the summary that depends on what is kept."""
    if keep == "pairs":
        return {"pairs": len(written), "no_contrast": prompts - len(written)}
    if keep == "band":
        return {"kept": len(written), "left_out_of_band": prompts - len(written)}
    if keep == "all":
        return {}
    return {
        "accept": accept,
        "accepted": len(written),
        "yield": len(written) / sampled,
        "refused": dict(refused.most_common()),
    }
