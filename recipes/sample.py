"""Completions of a model, scored by a run's rewards and kept in a .jsonl: as pairs for DPO and reward models, or all.

Give it a GRPO run's YAML, as to recipes.evaluate. With --pairs, a prompt gives one row: the first of its best completions as
`chosen`, the first of its worst as `rejected`. Empty ones count for neither; one cut off by max_completion_length can only be
rejected, since a trainer puts an end token after it. A prompt whose completions earn the same has no contrast, and no row.
Without --pairs every completion is a row, with its rewards. Prompts are written as they were before the template, which
is for the recipe that reads them to apply; a row's other columns, its gold above all, follow it.

Run: python -m recipes.sample --config recipes/configs/grpo/tiny.yaml --pairs --problems 5000 --output outputs/pairs.jsonl
Then: python -m recipes.dpo --config recipes/configs/dpo/tiny.yaml --dataset outputs/pairs.jsonl --max_steps 75 \
          --held_out_dataset arithmetic --output_dir outputs/dpo-sampled    (more passes over the pairs may unlearn)
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from accelerate import PartialState
from trl import GRPOConfig, ModelConfig

import data
import rewards
from recipes import _common as common
from recipes import _measure, _rows
from recipes._config import parse, refusing
from recipes.grpo import GRPORecipe, check, generation

# columns of a row about answers other than those sampled here
OTHERS = {"prompt", "completion", "chosen", "rejected", "flaw", "first_error"}


@dataclass(kw_only=True)
class Sampling:
    output: str = field(metadata={"help": "the .jsonl to write, which must not exist"})
    pairs: bool = field(default=False, metadata={"help": "best against worst of each prompt, not every completion"})
    split: str = field(default="train", metadata={"help": "split whose prompts are sampled"})
    problems: int | None = field(default=None, metadata={"help": "the first so many prompts; None: all of the split"})
    samples: int = field(default=8, metadata={"help": "completions sampled for each prompt"})
    batch_size: int = field(default=256, metadata={"help": "completions generated at a time"})
    json: bool = field(default=False, metadata={"help": "print the summary as JSON"})


def main(sampling: Sampling, args: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, _given) -> None:
    start, k, output = time.perf_counter(), sampling.samples, Path(sampling.output)
    with refusing():
        if output.suffix != ".jsonl" or output.exists():
            why = "already exists" if output.suffix == ".jsonl" else "is no .jsonl"
            raise ValueError(f"output={sampling.output!r} {why}: name another file (nothing is ever overwritten)")
        if k < 1 + sampling.pairs:
            raise ValueError(f"samples={k}: at least {1 + sampling.pairs} a prompt are needed")
        reward_funcs = {name: rewards.load(name, **args.reward_options.get(name, {})) for name in args.rewards}
        rows, bare = (
            data.load(args.dataset, sampling.split, template=template, **args.dataset_options)
            for template in (args.template, None)
        )
        rows = rows.add_column("_row", list(range(len(rows))))
        rows = rows.select(range(min(sampling.problems or len(rows), len(rows))))
        tokenizer = common.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code, adapter=True
        )
        rows, counts = _rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
    model = _measure.load_model(model_args, training_args)
    rows_k = rows.select([i for i in range(len(rows)) for _ in range(k)])
    completions = _measure.sample(
        model, tokenizer, rows_k["prompt"], generation(training_args), sampling.batch_size, training_args.seed
    )
    if not PartialState().is_main_process:
        return
    columns = {c: rows_k[c] for c in rows_k.column_names if c != "prompt"}
    scores = {
        name: reward(completions=[c.text for c in completions], **columns) for name, reward in reward_funcs.items()
    }
    scores = [dict(zip(scores, values, strict=True)) for values in zip(*scores.values(), strict=True)]
    totals = [sum(weight * own[name] for name, weight in args.rewards.items()) for own in scores]

    written = []
    for n, i in enumerate(rows["_row"]):
        mine = slice(n * k, n * k + k)
        own = {"prompt": bare[i]["prompt"]}, {c: v for c, v in bare[i].items() if c not in OTHERS}
        group = completions[mine], totals[mine], scores[mine]
        written += best_against_worst(*own, *group) if sampling.pairs else every_one(*own, *group)
    result = {
        "model": model_args.model_name_or_path,
        "dataset": args.dataset,
        "split": sampling.split,
        "seed": training_args.seed,
        "prompts": len(rows),
        "left_out": {key: n for key, n in counts.items() if key != "rows"},
        "completions": len(completions),
        "mean_reward": fmean(totals),
        "accuracy": fmean(own[next(iter(args.rewards))] == 1.0 for own in scores),
        **({"pairs": len(written), "no_contrast": len(rows) - len(written)} if sampling.pairs else {}),
        "output": str(output),
        "seconds": round(time.perf_counter() - start, 1),
    }
    with refusing():
        if not written:
            raise ValueError(
                f"no pairs: none of {len(rows)} prompts has completions that earn differently; raise samples"
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    common.write_atomically(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written))
    common.say(json.dumps(result) if sampling.json else describe(result))


def every_one(prompt: dict, columns: dict, group: list[_measure.Completion], totals: list[float], scores: list[dict]):
    """The rows of one prompt, one a completion."""
    return [
        prompt
        | {"completion": message(completion)}
        | columns
        | {"reward": total, "rewards": own, "finished": completion.finished}
        for completion, total, own in zip(group, totals, scores, strict=True)
    ]


def best_against_worst(
    prompt: dict, columns: dict, group: list[_measure.Completion], totals: list[float], _scores=None
):
    """The row of one prompt, in a list: none where no completion that came to its end earns more than another."""
    answers = [i for i, completion in enumerate(group) if completion.text.strip()]
    best = max((i for i in answers if group[i].finished), key=totals.__getitem__, default=None)
    worst = min(answers, key=totals.__getitem__, default=None)
    if best is None or totals[best] <= totals[worst]:
        return []
    pair = {"chosen": message(group[best]), "rejected": message(group[worst])}
    return [prompt | pair | columns | {"chosen_reward": totals[best], "rejected_reward": totals[worst]}]


def message(completion: _measure.Completion) -> list[dict]:
    return [{"role": "assistant", "content": completion.text}]


def describe(result: dict) -> str:
    lines = [f"{result['model']} on {result['dataset']} ({result['split']}), {result['seconds']} s"]
    lines += [
        f"  {key:<12} {result[key]}" for key in ("prompts", "completions", "pairs", "no_contrast") if key in result
    ]
    lines += [f"  {key:<12} {result[key]:.3f}" for key in ("mean_reward", "accuracy")]
    return "\n".join([*lines, f"written to {result['output']}"])


if __name__ == "__main__":
    main(*parse((Sampling, GRPORecipe, GRPOConfig, ModelConfig), doc=__doc__, check=check))
