"""Metrics of sampled completions: accuracy (pass@1), format rate, lengths, from what each reward pays."""

from collections.abc import Callable, Iterator
from statistics import fmean, stdev

from datasets import Dataset

from recipes.measuring.sampler import Completion
from recipes.shared import dataset_rows
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import refusing
from rewards import RewardError


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
    with refusing(RewardError):
        return {
            name: reward(**given, completion_ids=[c.ids for c in completions]) for name, reward in reward_funcs.items()
        }


def metrics(
    completions: list[Completion], scores: dict[str, list[float | None]], accuracy: str | None, samples: int = 1
) -> dict:
    """Metrics of `samples` completions a problem, which stand together; `scores` is what each reward paid for each of them.

    accuracy: the reward that says which completions are right: those that it pays in full; None: it isn't reported. Its
    standard error is that of the problems' means, since samples of one problem aren't independent evidence.
    """
    result = {}
    if accuracy is not None:
        right = [float(value == 1.0) for value in scores[accuracy]]
        problems = [fmean(right[i : i + samples]) for i in range(0, len(right), samples)]
        stderr = stdev(problems) / len(problems) ** 0.5 if len(problems) > 1 else None
        result = {"accuracy": fmean(problems), "stderr": stderr}
    return result | {
        "format_rate": fmean(scores["think_format"]),
        "mean_length": fmean(len(c.ids) for c in completions),
        "truncation_rate": fmean(not c.finished for c in completions),
    }
