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

import torch
from peft import AutoPeftModelForCausalLM
from tqdm import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig, set_seed
from trl import GRPOConfig, ModelConfig, get_quantization_config

import data
import rewards
from recipes import _common as common
from recipes._config import parse, refusing
from recipes.grpo import GRPORecipe, check


@dataclass
class Evaluation:
    split: str = field(default="test", metadata={"help": "split to evaluate on"})
    problems: int | None = field(default=None, metadata={"help": "the first so many problems; None: all of the split"})
    samples: int = field(default=4, metadata={"help": "completions sampled for each problem"})
    batch_size: int = field(default=256, metadata={"help": "completions generated at a time"})
    examples: int = field(default=4, metadata={"help": "completions to show, one each of the first problems"})
    json: bool = field(
        default=False, metadata={"help": "print the result as JSON, and nothing else, on standard output"}
    )


def main(evaluation: Evaluation, args: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, _given) -> None:
    with refusing():
        # the format is always reported, also for a run that wasn't rewarded for it
        names = [*args.rewards, "think_format"]
        reward_funcs = {name: rewards.load(name, **args.reward_options.get(name, {})) for name in names}
        rows = data.load(args.dataset, evaluation.split, template=args.template, **args.dataset_options)
        if evaluation.problems is not None:
            rows = rows.select(range(min(evaluation.problems, len(rows))))
        tokenizer = common.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
        )
        rows, counts = common.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
    start = time.perf_counter()
    model = load_model(model_args, training_args)
    rows_k = rows.select([i for i in range(len(rows)) for _ in range(evaluation.samples)])
    texts, lengths, finished = generate(model, tokenizer, rows_k["prompt"], training_args, evaluation.batch_size)

    columns = {c: rows_k[c] for c in rows_k.column_names if c != "prompt"}
    scores = {name: reward(completions=texts, **columns) for name, reward in reward_funcs.items()}
    right = [float(score == 1.0) for score in scores[next(iter(args.rewards))]]
    k = evaluation.samples
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
        "mean_length": fmean(lengths),
        "truncation_rate": 1 - fmean(finished),
        "rewards": {name: fmean(values) for name, values in scores.items()},
        "seconds": round(time.perf_counter() - start, 1),
        "examples": [
            {
                "prompt": common.prompt_texts([rows_k["prompt"][i]], tokenizer)[0],
                "completion": texts[i],
                "rewards": {name: values[i] for name, values in scores.items()},
            }
            for i in range(0, min(len(texts), k * evaluation.examples), k)
        ],
    }
    print(json.dumps(result) if evaluation.json else describe(result), flush=True)


def load_model(model_args: ModelConfig, training_args: GRPOConfig):
    """The model in evaluation mode, on the GPU where there is one: base, fine-tuned, or a LoRA adapter on its base."""
    name = model_args.model_name_or_path
    adapter = (Path(name) / "adapter_config.json").is_file()
    model = (AutoPeftModelForCausalLM if adapter else AutoModelForCausalLM).from_pretrained(
        name,
        trust_remote_code=training_args.trust_remote_code,
        quantization_config=get_quantization_config(model_args),
        **common.model_init_kwargs(model_args),
    )
    return model.to(training_args.device).eval()


def generate(model, tokenizer, prompts: list, training_args: GRPOConfig, batch_size: int):
    """One completion a prompt, sampled with the run's own settings: texts, lengths in tokens, and whether each one ended."""
    set_seed(training_args.seed)
    settings = GenerationConfig(
        do_sample=True,
        max_new_tokens=training_args.max_completion_length,
        temperature=training_args.temperature,
        top_p=training_args.top_p,
        top_k=training_args.top_k,
        min_p=training_args.min_p,
        repetition_penalty=training_args.repetition_penalty,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    texts, lengths, finished = [], [], []
    for start in tqdm(range(0, len(prompts), batch_size), desc="evaluating", disable=None, leave=False):
        batch = common.prompt_texts(prompts[start : start + batch_size], tokenizer)
        inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        with torch.inference_mode():
            ids = model.generate(**inputs, generation_config=settings)[:, inputs["input_ids"].shape[1] :]
        ended = ids == tokenizer.eos_token_id
        length = torch.where(ended.any(1), ended.int().argmax(1) + 1, ids.shape[1])
        texts += [
            tokenizer.decode(row[:n], skip_special_tokens=True) for row, n in zip(ids, length.tolist(), strict=True)
        ]
        lengths += length.tolist()
        finished += ended.any(1).tolist()
    return texts, lengths, finished


def describe(result: dict) -> str:
    stderr = "" if result["stderr"] is None else f" ± {result['stderr']:.3f}"
    lines = [
        f"{result['model']} on {result['dataset']} ({result['split']}): {result['problems']} problems x {result['samples']} samples",
        f"  pass@1           {result['accuracy']:.3f}{stderr}",
        f"  format rate      {result['format_rate']:.3f}",
        f"  mean length      {result['mean_length']:.1f} tokens",
        f"  truncation rate  {result['truncation_rate']:.3f}",
        *(f"  {name:<16} {value:.3f}" for name, value in result["rewards"].items()),
        f"  {result['seconds']} s",
    ]
    for example in result["examples"]:
        scores = ", ".join(f"{name} {value:g}" for name, value in example["rewards"].items())
        lines.append(f"\n{example['prompt'].strip()}\n{example['completion'].strip()}\n  [{scores}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*parse((Evaluation, GRPORecipe, GRPOConfig, ModelConfig), doc=__doc__, check=check))
