"""Metrics of sampled completions: accuracy (pass@1), format rate, lengths, from what each reward pays."""

from collections.abc import Callable, Iterator
from math import comb
from statistics import fmean, stdev

from datasets import Dataset

import rewards
from recipes.measuring.sampler import Completion
from recipes.shared import dataset_rows
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import refusing


def sampling_problems(config: RunConfig) -> Iterator[str]:
    """A temperature below 0, several samples a prompt of a greedy one, and settings that aren't applied outside training."""
    temperature = config["temperature"]
    if config["generation_kwargs"]:
        yield (
            f"generation_kwargs={config['generation_kwargs']!r} is TRL's, for training, and not applied here: say "
            "--generation_kwargs null"
        )
    if temperature < 0:
        yield f"temperature={temperature} must be at least 0, which is greedy"
    if temperature == 0 and (config["samples"] or 1) > 1:
        yield f"samples={config['samples']}: temperature=0 is greedy, and every sample the same: say samples: 1"


def grades(
    completions: list[Completion], rows: Dataset, reward_funcs: dict[str, Callable]
) -> dict[str, list[float | None]]:
    """What each reward pays for one completion a row. One that breaks its contract ends the program with one line."""
    given = dataset_rows.reward_columns(rows) | {
        "completions": dataset_rows.as_completions([c.text for c in completions], rows)
    }
    with refusing(rewards.RewardError):
        return {
            name: reward(**given, completion_ids=[c.ids for c in completions]) for name, reward in reward_funcs.items()
        }


def right(scores: dict[str, list[float | None]], accuracy: str) -> list[bool]:
    """Which completions are right: those that `accuracy` pays in full, and of rows that are another reward's, that one.

    Of the other rewards only those count that need a column of the row, in their order: style isn't right or wrong.
    """
    others = [name for name in scores if name != accuracy and name in rewards.names()]
    golden = [name for name in others if rewards.columns_of(rewards.load(name))]
    paid = zip(*(scores[name] for name in (accuracy, *golden)), strict=True)
    return [next((value for value in values if value is not None), None) == 1.0 for values in paid]


def by_dataset(rows: Dataset, is_right: list[bool]) -> dict:
    """In a mixture, the accuracy on the rows of each dataset; nothing for other rows."""
    if "dataset" not in rows.column_names:
        return {}
    found = {}
    for dataset, value in zip(rows["dataset"], is_right, strict=True):
        found.setdefault(dataset, []).append(value)
    return {"accuracy_of": {dataset: fmean(values) for dataset, values in sorted(found.items())}}


def pass_at(is_right: list[bool], samples: int) -> dict[int, float]:
    """{k: pass@k} for k of 1, 2, 4 ... up to the `samples` a problem, which stand together.

    The chance that one of k completions, drawn from a problem's n without putting them back, is right: 1 - C(n - c, k) / C(n, k) with c right
    ones, the mean over the problems. Unbiased, which 1 - (1 - c/n)^k isn't (arXiv 2107.03374, section 2.1).
    """
    right_of = [sum(is_right[i : i + samples]) for i in range(0, len(is_right), samples)]
    sizes = [2**n for n in range(samples.bit_length()) if 2**n <= samples]
    return {k: fmean(1 - comb(samples - c, k) / comb(samples, k) for c in right_of) for k in sizes}


def metrics(
    completions: list[Completion], scores: dict[str, list[float | None]], accuracy: str | None, samples: int = 1
) -> dict:
    """Metrics of `samples` completions a problem, which stand together; `scores` is what each reward paid for each of them.

    accuracy: the reward that says which completions are right, as `right` does; None: it isn't reported. Its standard error is
    that of the problems' means, since samples of one problem aren't independent evidence.
    """
    result = {}
    if accuracy is not None:
        are_right = right(scores, accuracy)
        problems = [fmean(are_right[i : i + samples]) for i in range(0, len(are_right), samples)]
        stderr = stdev(problems) / len(problems) ** 0.5 if len(problems) > 1 else None
        result = {"accuracy": fmean(problems), "stderr": stderr}
    return result | {
        "format_rate": fmean(scores["think_format"]),
        "mean_length": fmean(len(c.ids) for c in completions),
        "truncation_rate": fmean(not c.finished for c in completions),
    }
