"""vLLM's log-probabilities against the trainer's: what TRL's corrections make of the difference, on the embedded base and on long answers.

A policy of float32 weights is sampled by an engine in bfloat16 (vLLM's dtype auto), or in float32. First table: GRPO on the
demo's sums with each of TRL's corrections, one run after the other. Second: one model, completions of so many tokens by an engine in bfloat16,
scored by the trainer in float32, and in bfloat16 as `bf16: true` does: which share of completions has a ratio, the product of
its tokens', beyond TRL's bound of 3, so that sequence_mask drops it; and which share of tokens.

Needs: make test-vllm (builds .venv-vllm), and make demo (outputs/sft-tiny-base); for the second a model, such as README's SmolLM2
Run: .venv-vllm/bin/python benchmarks/sampler_mismatch.py [--seeds 3] [--steps 40] [--model outputs/smollm2-135m-instruct]
"""

import argparse
import itertools
import json
import os
import runpy
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

REPO = Path(__file__).resolve().parents[1]
os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "WANDB_MODE": "disabled", "VLLM_LOGGING_LEVEL": "ERROR"}
CORRECTIONS = ("none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
BOUND = 3.0  # vllm_importance_sampling_clip_max's default
LENGTHS = (64, 128, 256, 512)
PROMPTS = ("Write a long story about a lighthouse.", "Explain how to prove that there are infinitely many primes.")
PROMPTS += ("List the planets and describe each at length.", "Solve step by step: what is 17 * 23 + 41 * 19?")


def engines_in(dtype: str) -> None:
    """Every engine that is made from now on, TRL's too, computes in this type."""
    sys.path.insert(0, str(REPO / "tests"))
    import vllm
    import vllm_on_cpu  # noqa: F401

    vllm.LLM = partial(vllm.LLM, dtype=dtype)


def train(dtype: str, correction: str, seed: int, steps: int) -> dict:
    """Runs GRPO as a separate process. Returns its reward, and how far vLLM's log-probabilities are from the trainer's, in nats."""
    with tempfile.TemporaryDirectory() as folder:
        argv = (
            f"--config recipes/configs/grpo/tiny.yaml --held_out 0 --report_to none --seed {seed} --max_steps {steps}"
        )
        argv += " --per_device_train_batch_size 64 --use_vllm true --vllm_max_model_length 128 --save_strategy steps"
        argv += f" --save_steps {steps} --vllm_importance_sampling_correction true --vllm_importance_sampling_mode "
        argv += "token_truncate --vllm_importance_sampling_clip_max 1e9" if correction == "none" else correction
        command = [sys.executable, __file__, "--child", dtype, *argv.split(), "--output_dir", f"{folder}/run"]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        log = json.loads(Path(folder, "run", f"checkpoint-{steps}", "trainer_state.json").read_text())["log_history"]
    log = [row for row in log if "reward" in row]
    name = "sampling/sampling_logp_difference"
    return {
        "reward": fmean(row["reward"] for row in log[-10:]),
        "mean": fmean(row[f"{name}/mean"] for row in log),
        "max": max(row[f"{name}/max"] for row in log),
    }


def corrections(seeds: int, steps: int) -> None:
    print(
        f"| engine | correction | reward, last 10 of {steps} steps | mean difference | largest |\n|---|---|---|---|---|"
    )
    for dtype, correction in itertools.product(("float32", "bfloat16"), CORRECTIONS):
        runs = [train(dtype, correction, seed, steps) for seed in range(seeds)]
        reward = [run["reward"] for run in runs]
        spread = f" ± {stdev(reward):.3f}" if seeds > 1 else ""
        mean, most = fmean(run["mean"] for run in runs), max(run["max"] for run in runs)
        print(f"| {dtype} | {correction} | {fmean(reward):.3f}{spread} | {mean:.1e} | {most:.1e} |", flush=True)


def long_answers(name: str, each: int = 4) -> None:
    import torch
    import vllm
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.utils import selective_log_softmax

    engines_in("bfloat16")
    tokenizer, longest = AutoTokenizer.from_pretrained(name), LENGTHS[-1]
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)["input_ids"]
        for text in PROMPTS
    ]
    llm = vllm.LLM(model=name, max_model_len=longest + 128, logprobs_mode="processed_logprobs", seed=0)
    settings = vllm.SamplingParams(n=each, max_tokens=longest, min_tokens=longest, ignore_eos=True, logprobs=0)
    answers = llm.generate([{"prompt_token_ids": ids} for ids in prompts], settings, use_tqdm=False)
    del llm
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
    print(
        "\n| trainer in | tokens | mean difference | completions beyond the bound | tokens beyond it |\n|---|---|---|---|---|"
    )
    for dtype in (torch.float32, torch.bfloat16):
        rows = []
        for ids, answer in zip(prompts, answers, strict=True):
            for one in answer.outputs:
                sampled = torch.tensor([p[t].logprob for p, t in zip(one.logprobs, one.token_ids, strict=True)])
                tokens = torch.tensor([ids + list(one.token_ids)])
                with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    logits = model(tokens, logits_to_keep=longest + 1).logits[:, :-1].float()
                rows.append(selective_log_softmax(logits, tokens[:, -longest:])[0] - sampled)
        differences = torch.stack(rows)
        for length in LENGTHS:
            part = differences[:, :length]
            completions = (part.sum(1).exp() > BOUND).float().mean()
            print(
                f"| {str(dtype).removeprefix('torch.')} | {length:,} | {part.abs().mean():.1e} | {completions:.0%} "
                f"| {(part.exp() > BOUND).float().mean():.2%} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--model", help="of the second table; without it there is none")
    args = parser.parse_args()
    if args.seeds:
        corrections(args.seeds, args.steps)
    if args.model:
        long_answers(args.model)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        engines_in(sys.argv[2])
        sys.path.insert(0, str(REPO))
        sys.argv = ["recipes/grpo.py", *sys.argv[3:]]
        runpy.run_module("recipes.grpo", run_name="__main__", alter_sys=True)
    else:
        main()
