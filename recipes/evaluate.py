"""pass@1 and pass@k of any checkpoint on any dataset: the same prompts, templates and rewards as in training.

Give it the run's own YAML and the checkpoint to evaluate: a base model, a fine-tuned one, or a LoRA adapter. pass@1 is the
share of right completions, averaged over `samples` a problem; its standard error is that of the problems' means, since
samples of one problem aren't independent evidence. pass@k, for k of 2, 4 ... up to `samples`, is unbiased. vLLM samples where it is
installed and can, as in recipes.sample.

Run: python -m recipes.evaluate --config recipes/configs/grpo/tiny.yaml --model_name_or_path outputs/grpo-tiny [--json]
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from accelerate import PartialState
from trl import GRPOConfig, ModelConfig

import data
from recipes import grpo
from recipes.grpo import GRPORecipe
from recipes.measuring import sampler
from recipes.measuring.metrics import by_dataset, grades, metrics, pass_at, right, sampling_problems
from recipes.preflight.entry import start
from recipes.shared import dataset_rows, model_loading, tokens
from recipes.shared.arguments import dataset_problems
from recipes.shared.run_config import RunConfig
from recipes.shared.run_folder import provenance, write_atomically
from recipes.shared.terminal import refusing, result


@dataclass
class Evaluation:
    split: str = field(default="test", metadata={"help": "split to evaluate on"})
    problems: int | None = field(default=None, metadata={"help": "the first so many problems; None: all of the split"})
    samples: int | None = field(
        default=None,
        metadata={"help": "completions sampled for each problem; null: 4, or 1 at temperature 0, which is greedy"},
    )
    batch_size: int = field(default=256, metadata={"help": "completions generated at a time"})
    examples: int = field(default=4, metadata={"help": "completions to show, one each of the first problems"})
    output: str | None = field(
        default=None, metadata={"help": "a .json to write the result to as well, which must not exist"}
    )
    json: bool = field(
        default=False, metadata={"help": "print the result as JSON, and nothing else, on standard output"}
    )


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads."""
    yield from dataset_problems(config.without("held_out"))
    yield from sampling_problems(config)
    yield from grpo.sampling_problems(config)


def main(
    evaluation: Evaluation, args: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, config: RunConfig
) -> None:
    with refusing():
        if evaluation.output and (Path(evaluation.output).suffix != ".json" or Path(evaluation.output).exists()):
            raise ValueError(f"output={evaluation.output!r} must be a .json that isn't there yet: name another file")
        reward_funcs = args.reward_funcs("think_format")  # always reported, also for a run that wasn't rewarded for it
        rows = dataset_rows.load_rows(args, evaluation.split)
        if evaluation.problems is not None:
            rows = rows.select(range(min(evaluation.problems, len(rows))))
        tokenizer = model_loading.tokenizer_of(args, model_args, training_args, rows, adapter=True)
        rows, counts = dataset_rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
    began = time.perf_counter()
    engine = sampler.engine_for(model_args, training_args, config.given.get("use_vllm"))
    by = sampler.of_engine(engine)
    model = by.load_model(model_args, training_args)
    k = evaluation.samples or (1 if training_args.temperature == 0 else 4)
    rows_k = rows.select([i for i in range(len(rows)) for _ in range(k)])
    completions = by.sample(
        model,
        tokenizer,
        rows_k["prompt"],
        sampler.generation_of(training_args),
        evaluation.batch_size,
        training_args.seed,
    )

    scores = grades(completions, rows_k, reward_funcs)
    are_right = right(scores, next(iter(args.rewards)))
    found = {
        "model": model_args.model_name_or_path,
        "dataset": args.dataset,
        "split": evaluation.split,
        "template": args.template,
        "temperature": training_args.temperature,
        "seed": training_args.seed,
        "engine": engine,
        "problems": len(rows),
        "samples": k,
        "left_out": {key: n for key, n in counts.items() if key != "rows"},
        **metrics(completions, scores, next(iter(args.rewards)), k),
        "pass_at": pass_at(are_right, k),
        **by_dataset(rows_k, are_right),
        "ungraded": {name: n for name, values in scores.items() if (n := values.count(None))},
        "rewards": {
            name: fmean(v for v in values if v is not None)
            for name, values in scores.items()
            if values.count(None) < len(values)
        },
        "seconds": round(time.perf_counter() - began, 1),
        "examples": [
            {
                "prompt": tokens.prompt_texts([rows_k["prompt"][i]], tokenizer)[0],
                "completion": completions[i].text,
                "rewards": {name: values[i] for name, values in scores.items()},
            }
            for i in range(0, min(len(completions), k * evaluation.examples), k)
        ],
    }
    if evaluation.output and PartialState().is_main_process:
        Path(evaluation.output).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(evaluation.output), json.dumps(found | provenance(), indent=2) + "\n")
    result(json.dumps(found) if evaluation.json else describe(found))


def describe(found: dict) -> str:
    stderr = "" if found["stderr"] is None else f" ± {found['stderr']:.3f}"
    lines = [
        f"{found['model']} on {data.named(found['dataset'])} ({found['split']}): {found['problems']} problems x {found['samples']} samples, "
        f"{found['engine']}",
        f"  pass@1           {found['accuracy']:.3f}{stderr}",
        *(f"  pass@{n:<12}{value:.3f}" for n, value in found["pass_at"].items() if int(n) > 1),
        f"  format rate      {found['format_rate']:.3f}",
        f"  mean length      {found['mean_length']:.1f} tokens",
        f"  truncation rate  {found['truncation_rate']:.3f}",
        *(f"  {name:<16} {value:.3f}" for name, value in found["rewards"].items()),
        *(f"  pass@1 of {name}: {value:.3f}" for name, value in found.get("accuracy_of", {}).items()),
        *(f"  {name} gave None for {n} completions" for name, n in found["ungraded"].items()),
        f"  {found['seconds']} s",
    ]
    for example in found["examples"]:
        scores = ", ".join(
            f"{name} {value if value is None else f'{value:g}'}" for name, value in example["rewards"].items()
        )
        lines.append(f"\n{example['prompt'].strip()}\n{example['completion'].strip()}\n  [{scores}]")
    return "\n".join(lines)


if __name__ == "__main__":
    start("evaluate", main, problems, __doc__)
