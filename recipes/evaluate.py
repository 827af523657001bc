"""pass@1 of any checkpoint on any dataset: the same prompts, templates and rewards as in training.

Give it the run's own YAML and the checkpoint to evaluate: a base model, a fine-tuned one, or a LoRA adapter. pass@1 is the
share of right completions, averaged over `samples` a problem; its standard error is that of the problems' means, since
samples of one problem are no independent evidence.

Run: python -m recipes.evaluate --config recipes/configs/grpo/tiny.yaml --model_name_or_path outputs/grpo-tiny [--json]
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from accelerate import PartialState
from trl import GRPOConfig, ModelConfig

import rewards
from recipes import _common as common
from recipes import _measure, _model, _rows, grpo
from recipes._config import parse, refusing
from recipes.grpo import GRPORecipe, generation


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


def check(given: dict) -> None:
    """Refuse, before anything loads, what can't work together. Raises ValueError."""
    _measure.check_samples(given)
    grpo.check({k: v for k, v in given.items() if "vllm" not in k and k != "temperature"})  # transformers samples here


def main(evaluation: Evaluation, args: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, _given) -> None:
    with refusing():
        if evaluation.output and (Path(evaluation.output).suffix != ".json" or Path(evaluation.output).exists()):
            raise ValueError(f"output={evaluation.output!r} must be a .json that isn't there yet: name another file")
        # the format is always reported, also for a run that wasn't rewarded for it
        names = [*args.rewards, "think_format"]
        reward_funcs = {name: rewards.load(name, **args.reward_options.get(name, {})) for name in names}
        rows = _rows.load(args, evaluation.split)
        if evaluation.problems is not None:
            rows = rows.select(range(min(evaluation.problems, len(rows))))
        tokenizer = _model.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code, adapter=True
        )
        rows, counts = _rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
    start = time.perf_counter()
    model = _measure.load_model(model_args, training_args)
    k = evaluation.samples or (1 if training_args.temperature == 0 else 4)
    rows_k = rows.select([i for i in range(len(rows)) for _ in range(k)])
    completions = _measure.sample(
        model, tokenizer, rows_k["prompt"], generation(training_args), evaluation.batch_size, training_args.seed
    )
    texts = [c.text for c in completions]

    scores = _measure.grades(completions, rows_k, reward_funcs)
    right = [float(score == 1.0) for score in scores[next(iter(args.rewards))]]
    per_problem = [fmean(right[i : i + k]) for i in range(0, len(right), k)]
    result = {
        "model": model_args.model_name_or_path,
        "dataset": args.dataset,
        "split": evaluation.split,
        "template": args.template,
        "temperature": training_args.temperature,
        "seed": training_args.seed,
        "problems": len(rows),
        "samples": k,
        "left_out": {key: n for key, n in counts.items() if key != "rows"},
        "accuracy": fmean(per_problem),
        "stderr": stdev(per_problem) / len(per_problem) ** 0.5 if len(per_problem) > 1 else None,
        "format_rate": fmean(scores["think_format"]),
        "ungraded": {name: n for name, values in scores.items() if (n := values.count(None))},
        "mean_length": fmean(len(c.ids) for c in completions),
        "truncation_rate": fmean(not c.finished for c in completions),
        "rewards": {name: fmean(v for v in values if v is not None) for name, values in scores.items()},
        "seconds": round(time.perf_counter() - start, 1),
        "examples": [
            {
                "prompt": _rows.prompt_texts([rows_k["prompt"][i]], tokenizer)[0],
                "completion": texts[i],
                "rewards": {name: values[i] for name, values in scores.items()},
            }
            for i in range(0, min(len(texts), k * evaluation.examples), k)
        ],
    }
    if evaluation.output and PartialState().is_main_process:
        Path(evaluation.output).parent.mkdir(parents=True, exist_ok=True)
        common.write_atomically(Path(evaluation.output), json.dumps(result | common.provenance(), indent=2) + "\n")
    common.result(json.dumps(result) if evaluation.json else describe(result))


def describe(result: dict) -> str:
    stderr = "" if result["stderr"] is None else f" ± {result['stderr']:.3f}"
    lines = [
        f"{result['model']} on {result['dataset']} ({result['split']}): {result['problems']} problems x {result['samples']} samples",
        f"  pass@1           {result['accuracy']:.3f}{stderr}",
        f"  format rate      {result['format_rate']:.3f}",
        f"  mean length      {result['mean_length']:.1f} tokens",
        f"  truncation rate  {result['truncation_rate']:.3f}",
        *(f"  {name:<16} {value:.3f}" for name, value in result["rewards"].items()),
        *(f"  {name} gave None for {n} completions" for name, n in result["ungraded"].items()),
        f"  {result['seconds']} s",
    ]
    for example in result["examples"]:
        scores = ", ".join(
            f"{name} {value if value is None else f'{value:g}'}" for name, value in example["rewards"].items()
        )
        lines.append(f"\n{example['prompt'].strip()}\n{example['completion'].strip()}\n  [{scores}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*parse((Evaluation, GRPORecipe, GRPOConfig, ModelConfig), doc=__doc__, check=check))
    common.leave()
