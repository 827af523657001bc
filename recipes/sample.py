"""Completions of a model, scored by a run's rewards and kept in a .jsonl: those worth imitating, pairs for DPO, or all.

Give it a GRPO run's YAML, as to recipes.evaluate, and say what to keep:
- accepted: rejection sampling as in DeepSeek-R1 (arXiv 2501.12948, section 2.3.3): right, well-formed, in one language, without
  repetition, and finished. `accept` names rewards and the least that each has to pay; of equal texts one is kept, and of a
  prompt `most`. What was refused is counted by its first reason. For recipes.sft.
- pairs: of a prompt, the first of its best completions as `chosen`, the first of its worst as `rejected`. Empty ones count for
  neither; an unfinished one can only be rejected, since a trainer puts an end token after it. A prompt whose
  completions earn the same has no contrast, and no row. For recipes.dpo.
- all: every completion, with its rewards.
- band: prompts that the model solves now and then, each once, with its `pass_rate`: the share of its completions that are right.
  GRPO learns nothing from a prompt that is always or never solved. `band: [0.1, 0.9]` keeps others; [0, 1] keeps all, for
  `dataset_options: {pass_rate: [...]}` to choose from. For recipes.grpo.
Prompts are written as they were before the template, which is for the recipe that reads them to apply; a row's other
columns, its gold above all, follow it. A run that was stopped resumes from its last batch when it is started again.
vLLM samples where it is installed, on one GPU (`use_vllm: false`: never); else transformers; the summary, <output>.summary.json, says which.

Run: python -m recipes.sample --config recipes/configs/grpo/tiny.yaml --problems 5000 --output outputs/traces.jsonl
Then: python -m recipes.sft --config recipes/configs/sft/tiny.yaml --dataset outputs/traces.jsonl --held_out_dataset arithmetic
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal

from accelerate import PartialState
from trl import GRPOConfig, ModelConfig

import data
from data import _pass_rate
from recipes import grpo
from recipes.grpo import GRPORecipe
from recipes.measuring import sampler
from recipes.measuring.metrics import grades, right, sampling_problems
from recipes.pipeline.kept_samples import ACCEPT, in_band, pass_rate, rows_to_keep, yields
from recipes.pipeline.partial_samples import PartialSamples
from recipes.preflight.entry import start
from recipes.shared import dataset_rows, model_loading
from recipes.shared.arguments import dataset_problems, reward_problems
from recipes.shared.run_config import RunConfig, refusal
from recipes.shared.run_folder import provenance, write_atomically
from recipes.shared.terminal import refusing, result


@dataclass(kw_only=True)
class SampleArgs:
    output: str = field(metadata={"help": "the .jsonl to write, which must not exist"})
    keep: Literal["accepted", "pairs", "all", "band"] = field(
        default="accepted", metadata={"help": "which completions, or with band which prompts"}
    )
    band: list[float] | None = field(
        default=None, metadata={"help": "the least and the most pass rate to keep; null: above 0 and below 1"}
    )
    accept: dict[str, float] | None = field(
        default=None, metadata={"help": f"reward -> the least to earn; null: the first reward in full, and {ACCEPT}"}
    )
    most: int = field(default=4, metadata={"help": "accepted completions of a prompt, at most"})
    split: str = field(default="train", metadata={"help": "split whose prompts are sampled"})
    problems: int | None = field(default=None, metadata={"help": "the first so many prompts; None: all of the split"})
    samples: int | None = field(
        default=None,
        metadata={"help": "completions sampled for each prompt; null: 8, or 1 at temperature 0, which is greedy"},
    )
    batch_size: int = field(default=256, metadata={"help": "completions generated at a time, and kept at a time"})
    json: bool = field(default=False, metadata={"help": "print the summary as JSON"})

    def thresholds(self, rewards: dict[str, float]) -> dict[str, float]:
        return {next(iter(rewards)): 1.0} | ACCEPT if self.accept is None else self.accept


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads."""
    names, options = config["rewards"] or {}, config["reward_options"] or {}
    of_run = {name: values for name, values in options.items() if name in names}
    yield from dataset_problems(config.without("held_out"))
    yield from sampling_problems(config)
    yield from grpo.sampling_problems(config.with_given(reward_options=of_run))
    # what is accepted has options too
    yield from reward_problems(config.with_given(rewards={**names, **ACCEPT, **(config["accept"] or {})}))
    if config["keep"] == "pairs" and config["temperature"] == 0:
        yield "temperature=0 with keep=pairs: a pair can't be made of one greedy completion; raise it"
    if config["band"] is not None:
        yield from refusal(_pass_rate.check, config["band"])
        if config["keep"] != "band":
            yield f"band={config['band']}: it is for keep=band, and keep={config['keep']}"
    if config["keep"] == "band" and config["temperature"] == 0:
        yield "temperature=0 with keep=band: a greedy completion is right or wrong, which is no rate; raise it"
    least = 2 if config["keep"] in ("pairs", "band") else 1
    if config["samples"] is not None and config["samples"] < least:
        yield f"samples={config['samples']}: at least {least} a prompt are needed"
    for key in ("most", "problems"):
        if config[key] is not None and config[key] < 1:
            yield f"{key}={config[key]} must be at least 1"


def main(
    args: SampleArgs, run: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, config: RunConfig
) -> None:
    began, output, accept = time.perf_counter(), Path(args.output), args.thresholds(run.rewards)
    with refusing():
        if output.suffix != ".jsonl" or output.exists():
            reason = "already exists" if output.suffix == ".jsonl" else "isn't a .jsonl"
            raise ValueError(f"output={args.output!r} {reason}: name another file (nothing is ever overwritten)")
        reward_funcs = run.reward_funcs(*accept, "think_format")  # the format is always reported
        rows, sources = dataset_rows.load_rows(run, args.split), dataset_rows.load_rows(run, args.split, template=None)
        rows = rows.add_column("_row", list(range(len(rows))))
        if args.problems is not None:
            rows = rows.select(range(min(args.problems, len(rows))))
        tokenizer = model_loading.tokenizer_of(run, model_args, training_args, rows, adapter=True)
        rows, counts = dataset_rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, run.max_prompt_length)
        engine = sampler.engine_for(model_args, training_args, config.given.get("use_vllm"))
        settings = {
            k: v for k, v in config.given.items() if k not in ("output", "json", "keep", "accept", "most", "band")
        }
        settings |= {"scored": sorted(reward_funcs), "engine": engine, "num_processes": config.launch.processes}
        samples = args.samples or (1 if training_args.temperature == 0 else 8)
        part = PartialSamples(output, settings, len(rows), max(1, args.batch_size // samples))
    if part.groups < len(rows):
        sample_on(part, samples, args.batch_size, rows, reward_funcs, tokenizer, engine, training_args, model_args)
    if not PartialState().is_main_process:
        return
    groups = part.read()
    completions = [one for group in groups for one in group]
    scores = {name: [one["rewards"][name] for one in completions] for name in reward_funcs}
    for one, is_right in zip(completions, right(scores, next(iter(run.rewards))), strict=True):
        one["reward"] = sum(weight * (one["rewards"][name] or 0.0) for name, weight in run.rewards.items())
        one["right"] = is_right
    written, refused = rows_to_keep(args.keep, [sources[i] for i in rows["_row"]], groups, accept, args.most, args.band)
    with refusing():
        if not written:
            raise ValueError(
                f"no pairs: none of {len(rows)} prompts has completions that earn differently; raise samples"
                if args.keep == "pairs"
                else f"no prompt's pass rate is in the band: {rates_in_words(groups)}; raise samples, or take another band"
                if args.keep == "band"
                else f"none of {len(completions)} completions is accepted ({in_words(refused)}): train longer, or lower what "
                f"accept asks for; what was sampled is kept in {part.path}"
            )
    summary = {
        "model": model_args.model_name_or_path,
        "dataset": run.dataset,
        "split": args.split,
        "seed": training_args.seed,
        "engine": engine,
        "keep": args.keep,
        "prompts": len(rows),
        "left_out": {key: n for key, n in counts.items() if key != "rows"},
        "completions": len(completions),
        "tokens": sum(one["tokens"] for one in completions),
        "mean_reward": fmean(one["reward"] for one in completions),
        "accuracy": fmean(one["right"] for one in completions),
        "format_rate": fmean(one["rewards"]["think_format"] for one in completions),
        "mean_length": fmean(one["tokens"] for one in completions),
        **yields(args.keep, written, len(completions), len(rows), refused, accept),
        **(band_of(args, groups, training_args.num_generations) if args.keep == "band" else {}),
        "output": str(output),
        "seconds": round(time.perf_counter() - began, 1),
    }
    write_atomically(output.with_suffix(".summary.json"), json.dumps(summary | provenance(), indent=2) + "\n")
    write_atomically(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written))
    part.path.unlink()
    result(json.dumps(summary) if args.json else describe(summary))


def sample_on(
    part: PartialSamples,
    samples: int,
    batch_size: int,
    rows,
    reward_funcs,
    tokenizer,
    engine: str,
    training_args,
    model_args,
) -> None:
    """Sample, score and keep the prompts that are not in `part` yet, some at a time, each time with another seed."""
    by = sampler.of_engine(engine)
    model = by.load_model(model_args, training_args)
    part.open()
    for at in range(part.groups, len(rows), part.step):
        repeated = rows.select([i for i in range(at, min(at + part.step, len(rows))) for _ in range(samples)])
        completions = by.sample(
            model,
            tokenizer,
            repeated["prompt"],
            sampler.generation_of(training_args),
            batch_size,
            training_args.seed + at,
        )
        if PartialState().is_main_process:
            scores = grades(completions, repeated, reward_funcs)
            ones = [
                {
                    "text": c.text,
                    "tokens": len(c.ids),
                    "finished": c.finished,
                    "rewards": dict(zip(scores, paid, strict=True)),
                }
                for c, paid in zip(completions, zip(*scores.values(), strict=True), strict=True)
            ]
            part.add([ones[n : n + samples] for n in range(0, len(ones), samples)])


def band_of(args: SampleArgs, groups: list[list[dict]], group_size: int) -> dict:
    """How often prompts were solved, and the share of GRPO's groups that would have an advantage, before and after."""
    rates = [pass_rate(group) for group in groups]
    kept = [rate for rate in rates if in_band(rate, args.band)]
    useful = {
        name: round(_pass_rate.useful_groups(r, group_size), 4) for name, r in (("before", rates), ("after", kept))
    }
    by_right = Counter(round(rate * len(group)) for rate, group in zip(rates, groups, strict=True))
    return {
        "band": args.band or "above 0 and below 1",
        "solved": {f"{n} of {len(groups[0])}": by_right[n] for n in range(len(groups[0]) + 1)},
        "useful_groups": useful | {"num_generations": group_size},
        "histogram": _pass_rate.histogram(rates),
    }


def rates_in_words(groups: list[list[dict]]) -> str:
    rates = [pass_rate(group) for group in groups]
    return f"{sum(r == 0 for r in rates)} are never solved, {sum(r == 1 for r in rates)} always"


def in_words(refused: dict) -> str:
    return ", ".join(f"{n} {why}" for why, n in refused.items())


def describe(summary: dict) -> str:
    lines = [
        f"{summary['model']} on {data.named(summary['dataset'])} ({summary['split']}), {summary['engine']}, {summary['seconds']} s"
    ]
    counts = ("prompts", "completions", "pairs", "no_contrast", "accepted", "kept", "left_out_of_band")
    lines += [f"  {key:<12} {summary[key]}" for key in counts if key in summary]
    lines += [f"  {'refused':<12} {in_words(summary['refused']) or 'none'}"] if "refused" in summary else []
    shares = ("yield", "mean_reward", "accuracy", "format_rate")
    lines += [f"  {key:<12} {summary[key]:.3f}" for key in shares if key in summary]
    if "useful_groups" in summary:
        useful = summary["useful_groups"]
        lines += ["  pass rates of the prompts", *(f"  {line}" for line in summary["histogram"])]
        lines.append(
            f"  groups of {useful['num_generations']} with an advantage: {useful['before']:.3f} of all prompts', {useful['after']:.3f} of those kept"
        )
    return "\n".join([*lines, f"written to {summary['output']}"])


if __name__ == "__main__":
    start("sample", main, problems, __doc__)
