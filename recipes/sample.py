"""Completions of a model, scored by a run's rewards and kept in a .jsonl: those worth imitating, pairs for DPO, or all.

Give it a GRPO run's YAML, as to recipes.evaluate, and say what to keep:
- accepted: rejection sampling as in DeepSeek-R1 (arXiv 2501.12948, section 2.3.3): right, well-formed, in one language, without
  repetition, and finished. `accept` names rewards and the least that each has to pay; of equal texts one is kept, and of a
  prompt `most`. What was refused is counted by its first reason. For recipes.sft.
- pairs: of a prompt, the first of its best completions as `chosen`, the first of its worst as `rejected`. Empty ones count for
  neither; an unfinished one can only be rejected, since a trainer puts an end token after it. A prompt whose
  completions earn the same has no contrast, and no row. For recipes.dpo.
- all: every completion, with its rewards.
Prompts are written as they were before the template, which is for the recipe that reads them to apply; a row's other
columns, its gold above all, follow it. A run that was stopped goes on from its last batch when it is started again.
vLLM samples where it is installed, on one GPU (`use_vllm: false`: never); else transformers; the summary, <output>.summary.json, says which.

Run: python -m recipes.sample --config recipes/configs/grpo/tiny.yaml --problems 5000 --output outputs/traces.jsonl
Then: python -m recipes.sft --config recipes/configs/sft/tiny.yaml --dataset outputs/traces.jsonl --held_out_dataset arithmetic
"""

import importlib.util
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from accelerate import PartialState
from trl import GRPOConfig, ModelConfig

import rewards
from recipes import _common as common
from recipes import _measure, _model, _rows, grpo
from recipes._config import parse, refusing
from recipes._part import Part
from recipes.grpo import GRPORecipe, generation

# columns of a row about answers other than those sampled here
OTHERS = {"prompt", "completion", "chosen", "rejected", "messages", "flaw", "first_error", "unreadable"}
# beside the run's first reward, its accuracy, in full: what a trace has to earn at least. On GSM8K's and MATH-500's own
# solutions the last two refuse 1 of 7,973 (benchmarks/style_rewards.py)
ACCEPT = {"think_format": 1.0, "language_consistency": 0.9, "repetition_penalty": -0.3}


@dataclass(kw_only=True)
class Sampling:
    output: str = field(metadata={"help": "the .jsonl to write, which must not exist"})
    keep: Literal["accepted", "pairs", "all"] = field(default="accepted", metadata={"help": "which completions"})
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


def check(given: dict) -> None:
    """Refuse, before anything loads, what can't work together. Raises ValueError."""
    names, options = given.get("rewards") or {}, given.get("reward_options") or {}
    _measure.check_samples(given)
    # how it samples while it trains
    run = {key: value for key, value in given.items() if "vllm" not in key and key != "temperature"}
    grpo.check(run | {"reward_options": {name: own for name, own in options.items() if name in names}})
    _rows.check_rewards(given | {"rewards": {**names, **ACCEPT, **(given.get("accept") or {})}})  # have options too
    if given.get("keep") == "pairs" and given.get("temperature") == 0:
        raise ValueError("temperature=0 with keep=pairs: of one greedy completion a prompt there is no pair; raise it")
    least = 2 if given.get("keep") == "pairs" else 1
    if given.get("samples") is not None and given["samples"] < least:
        raise ValueError(f"samples={given['samples']}: at least {least} a prompt are needed")
    for key in ("most", "problems"):
        if given.get(key) is not None and given[key] < 1:
            raise ValueError(f"{key}={given[key]} must be at least 1")


def main(sampling: Sampling, args: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, given: dict) -> None:
    start, output = time.perf_counter(), Path(sampling.output)
    with refusing():
        if output.suffix != ".jsonl" or output.exists():
            why = "already exists" if output.suffix == ".jsonl" else "is no .jsonl"
            raise ValueError(f"output={sampling.output!r} {why}: name another file (nothing is ever overwritten)")
        accept = sampling.thresholds(args.rewards)
        names = dict.fromkeys([*args.rewards, *accept, "think_format"])  # the format is always reported
        reward_funcs = {name: rewards.load(name, **args.reward_options.get(name, {})) for name in names}
        rows, bare = _rows.load(args, sampling.split), _rows.load(args, sampling.split, template=None)
        rows = rows.add_column("_row", list(range(len(rows))))
        if sampling.problems is not None:
            rows = rows.select(range(min(sampling.problems, len(rows))))
        tokenizer = _model.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code, adapter=True
        )
        rows, counts = _rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
        engine = engine_for(model_args, training_args, given)
        settings = {k: v for k, v in given.items() if k not in ("output", "json", "keep", "accept", "most")}
        settings |= {"scored": sorted(names), "engine": engine, "num_processes": PartialState().num_processes}
        k = sampling.samples or (1 if training_args.temperature == 0 else 8)
        part = Part(output, settings, len(rows), max(1, sampling.batch_size // k))
    if part.groups < len(rows):
        sample_on(part, k, sampling.batch_size, rows, reward_funcs, tokenizer, engine, training_args, model_args)
    if not PartialState().is_main_process:
        return
    groups = part.read()
    written, refused = [], Counter()
    for i, group in zip(rows["_row"], groups, strict=True):
        own = {"prompt": bare[i]["prompt"]}, {c: v for c, v in bare[i].items() if c not in OTHERS}
        for one in group:
            one["reward"] = sum(weight * (one["rewards"][name] or 0.0) for name, weight in args.rewards.items())
        if sampling.keep == "pairs":
            written += best_against_worst(*own, group)
        else:
            kept, why = accepted(group, accept, sampling.most) if sampling.keep == "accepted" else (group, [])
            refused.update(why)
            written += [every_one(*own, one) for one in kept]
    sampled = [one for group in groups for one in group]
    first = next(iter(args.rewards))
    result = {
        "model": model_args.model_name_or_path,
        "dataset": args.dataset,
        "split": sampling.split,
        "seed": training_args.seed,
        "engine": engine,
        "keep": sampling.keep,
        "prompts": len(rows),
        "left_out": {key: n for key, n in counts.items() if key != "rows"},
        "completions": len(sampled),
        "tokens": sum(one["tokens"] for one in sampled),
        "mean_reward": fmean(one["reward"] for one in sampled),
        "accuracy": fmean(one["rewards"][first] == 1.0 for one in sampled),
        "format_rate": fmean(one["rewards"]["think_format"] for one in sampled),
        "mean_length": fmean(one["tokens"] for one in sampled),
        **summed(sampling.keep, written, len(sampled), len(rows), refused, accept),
        "output": str(output),
        "seconds": round(time.perf_counter() - start, 1),
    }
    with refusing():
        if not written:
            raise ValueError(
                f"no pairs: none of {len(rows)} prompts has completions that earn differently; raise samples"
                if sampling.keep == "pairs"
                else f"none of {len(sampled)} completions is accepted ({told(refused)}): train longer, or lower what accept "
                f"asks for; what was sampled is kept in {part.path}"
            )
    summary = json.dumps(result | common.provenance(), indent=2)
    common.write_atomically(output.with_suffix(".summary.json"), summary + "\n")
    common.write_atomically(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written))
    part.path.unlink()
    common.result(json.dumps(result) if sampling.json else describe(result))


def engine_for(model_args: ModelConfig, training_args: GRPOConfig, given: dict) -> str:
    """vLLM where it is installed and can do what is asked: one process, a GPU, whole weights, an adapter in half precision."""
    adapter = (Path(model_args.model_name_or_path) / "adapter_config.json").is_file()
    possible = torch.cuda.is_available() and PartialState().num_processes == 1 and not training_args.use_cpu
    possible = possible and not (model_args.load_in_4bit or model_args.load_in_8bit)
    possible = possible and not (adapter and model_args.dtype not in ("bfloat16", "float16"))
    wanted = given.get("use_vllm") is not False
    return "vllm" if wanted and possible and importlib.util.find_spec("vllm") else "transformers"


def sample_on(
    part: Part, k: int, batch_size: int, rows, reward_funcs, tokenizer, engine: str, training_args, model_args
) -> None:
    """Sample, score and keep the prompts that are not in `part` yet, some at a time, each time with a seed of its own."""
    sampler = _measure
    if engine == "vllm":
        from recipes import _vllm as sampler
    model = sampler.load_model(model_args, training_args)
    part.open()
    for at in range(part.groups, len(rows), part.step):
        of = rows.select([i for i in range(at, min(at + part.step, len(rows))) for _ in range(k)])
        completions = sampler.sample(
            model, tokenizer, of["prompt"], generation(training_args), batch_size, training_args.seed + at
        )
        if PartialState().is_main_process:
            scores = _measure.grades(completions, of, reward_funcs)
            ones = [
                {
                    "text": c.text,
                    "tokens": len(c.ids),
                    "finished": c.finished,
                    "rewards": dict(zip(scores, own, strict=True)),
                }
                for c, own in zip(completions, zip(*scores.values(), strict=True), strict=True)
            ]
            part.add([ones[n : n + k] for n in range(0, len(ones), k)])


def accepted(group: list[dict], accept: dict[str, float], most: int) -> tuple[list[dict], list[str]]:
    """The completions of a prompt that are worth imitating, and of each other one the first reason against it."""
    kept, why = [], []
    for one in group:
        short = [name for name, least in accept.items() if one["rewards"][name] is None or one["rewards"][name] < least]
        if not one["finished"]:
            why.append("unfinished")
        elif short:
            why.append(short[0])
        elif any(one["text"].strip() == other["text"].strip() for other in kept):
            why.append("repeated")
        elif len(kept) == most:
            why.append("over most")
        else:
            kept.append(one)
    return kept, why


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


def summed(keep: str, written: list, sampled: int, prompts: int, refused: Counter, accept: dict) -> dict:
    if keep == "pairs":
        return {"pairs": len(written), "no_contrast": prompts - len(written)}
    if keep == "all":
        return {}
    return {
        "accept": accept,
        "accepted": len(written),
        "yield": len(written) / sampled,
        "refused": dict(refused.most_common()),
    }


def told(refused: dict) -> str:
    return ", ".join(f"{n} {why}" for why, n in refused.items())


def describe(result: dict) -> str:
    lines = [f"{result['model']} on {result['dataset']} ({result['split']}), {result['engine']}, {result['seconds']} s"]
    counts = ("prompts", "completions", "pairs", "no_contrast", "accepted")
    lines += [f"  {key:<12} {result[key]}" for key in counts if key in result]
    lines += [f"  {'refused':<12} {told(result['refused']) or 'none'}"] if "refused" in result else []
    shares = ("yield", "mean_reward", "accuracy", "format_rate")
    lines += [f"  {key:<12} {result[key]:.3f}" for key in shares if key in result]
    return "\n".join([*lines, f"written to {result['output']}"])


if __name__ == "__main__":
    main(*parse((Sampling, GRPORecipe, GRPOConfig, ModelConfig), doc=__doc__, check=check))
    common.leave()
