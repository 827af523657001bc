"""Which base fits which GPUs: recipes.check's estimate for GRPO on Qwen2.5 from 0.5B to 32B. Computed, from shapes alone.

The run: bfloat16 computation, gradient checkpointing, prompts of 512 tokens and completions of 1,024, one completion a device
and micro-step, accumulated, 8 sampled together on each device by transformers, beta 0. A cell has the first engine, of those
that cost ever more, under which the peak leaves a tenth of the device free, and that peak in GB; + what is offloaded to the
machine's own memory, for each device. A figure alone is that of single_gpu or multi_gpu.

With --long: the peak of GRPO and DPO on one GPU at 8,192 tokens, a sequence (GRPO) or a pair (DPO) at a time, and the most tokens,
in steps of 1,024, that fit.

Run: python benchmarks/what_fits.py [--sizes 0.5B 7B] [--trained LoRA]    (all of them: many minutes)
     python benchmarks/what_fits.py --long --sizes 1.5B 7B
"""

import argparse
import functools
import itertools
import sys

import torch
from peft import LoraConfig
from transformers import Qwen2Config

from recipes.preflight import memory
from recipes.preflight.model_shapes import Workload

# hidden size, intermediate size, layers, heads, key-value heads, vocabulary, whether the head is the embedding: config.json
SHAPES = {
    "0.5B": (896, 4864, 24, 14, 2, 151936, True),
    "1.5B": (1536, 8960, 28, 12, 2, 151936, True),
    "3B": (2048, 11008, 36, 16, 2, 151936, True),
    "7B": (3584, 18944, 28, 28, 4, 152064, False),
    "14B": (5120, 13824, 48, 40, 8, 152064, False),
    "32B": (5120, 27648, 64, 40, 8, 152064, False),
}
MACHINES = {"1 x 24 GB": (1, 24), "1 x 80 GB": (1, 80), "4 x 80 GB": (4, 80), "8 x 80 GB": (8, 80)}
# launch file: what is sharded, what is offloaded, whether one GPU gains by it; in the order of what they cost
LAUNCHES = {
    "single_gpu": ("none", {}, True),
    "multi_gpu": ("ddp", {}, False),
    "zero2": ("zero2", {}, False),
    "zero3": ("zero3", {}, False),
    "zero2_offload": ("zero2", {"offload_optimizer": True}, True),
    "zero3_offload": ("zero3", {"offload_optimizer": True, "offload_params": True}, True),
}
KINDS = ("full", "LoRA", "QLoRA")
FREE = 0.1


def config(size: str) -> Qwen2Config:
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = SHAPES[size]
    return Qwen2Config(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )


def workload(size: str, kind: str, **settings) -> Workload:
    adapter = LoraConfig(r=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return Workload(
        config=config(size),
        batch=1,
        # frozen weights lose nothing in bfloat16
        dtype=torch.float32 if kind == "full" else torch.bfloat16,
        amp=torch.bfloat16,
        peft_config=None if kind == "full" else adapter,
        quantized=memory.NF4_NESTED if kind == "QLoRA" else None,
        checkpointing=True,
        **settings,
    )


@functools.cache
def long_gb(recipe: str, size: str, kind: str, tokens: int) -> float:
    """Of one GPU, while it trains on sequences of so many tokens, of which 1,024 are the prompt's; vLLM samples elsewhere."""
    settings = {"prompt": 1024, "completion": tokens - 1024, "vllm": "server", "reference": recipe == "dpo"}
    return memory.estimate(workload(size, kind, recipe=recipe, sampled=1, **settings)).peak / 1e9


def longest(recipe: str, size: str, kind: str, gigabytes: float) -> int:
    """The most tokens that leave a tenth of the GPU free, in steps of 1,024; 0: not 2,048 of them."""

    def fits(steps: int) -> bool:
        return long_gb(recipe, size, kind, 1024 * steps) <= (1 - FREE) * gigabytes

    most, too_many = 1, 2
    while too_many <= 128 and fits(too_many):
        most, too_many = too_many, 2 * too_many
    while too_many - most > 1:
        middle = (most + too_many) // 2
        most, too_many = (middle, too_many) if fits(middle) else (most, middle)
    return 1024 * most if most > 1 else 0


@functools.cache
def peak_gb(size: str, kind: str, processes: int, name: str) -> tuple[float, float]:
    """Of a device, and of a machine's memory for each device."""
    sharding, offloaded, _ = LAUNCHES[name]
    settings = {"prompt": 512, "completion": 1024, "accumulation": 8, "sampled": 8} | offloaded
    found = memory.estimate(workload(size, kind, recipe="grpo", sharding=sharding, processes=processes, **settings))
    print(size, kind, processes, name, f"{found.peak / 1e9:.1f}", file=sys.stderr, flush=True)
    return found.peak / 1e9, found.host / 1e9


def cell(size: str, kind: str, processes: int, gigabytes: float) -> str:
    for name, (sharding, _, on_one) in LAUNCHES.items():
        if (processes == 1 and not on_one) or (processes > 1 and sharding == "none"):
            continue
        peak, host = peak_gb(size, kind, processes, name)
        if peak <= (1 - FREE) * gigabytes:
            fits = f"{peak:.0f}" if name in ("single_gpu", "multi_gpu") else f"{peak:.0f}, {name}"
            return fits + (f" + {host:.0f}" if host else "")
    return "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--trained", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--long", action="store_true")
    args = parser.parse_args()
    if args.long:
        print(
            "| | Qwen2.5 | trained | peak at 8,192 tokens, GB | longest on 24 GB | on 80 GB |\n|---|---|---|---|---|---|"
        )
        for recipe, size, kind in itertools.product(("grpo", "dpo"), args.sizes, args.trained):
            peak, *most = long_gb(recipe, size, kind, 8192), *(longest(recipe, size, kind, gb) for gb in (24, 80))
            cells = " | ".join(f"{tokens:,}" if tokens else "–" for tokens in most)
            print(f"| {recipe} | {size} | {kind} | {peak:.0f} | {cells} |", flush=True)
        return
    print("| Qwen2.5 | trained |", " | ".join(MACHINES), "|")
    print("|---|---|" + "---|" * len(MACHINES))
    for size in args.sizes:
        for kind in args.trained:
            cells = [cell(size, kind, *machine) for machine in MACHINES.values()]
            print(f"| {size} | {kind} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
