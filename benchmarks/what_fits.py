"""Which base fits which GPUs: recipes.check's estimate for GRPO on Qwen2.5 from 0.5B to 32B. Computed, from shapes alone.

The run: bfloat16 computation, gradient checkpointing, prompts of 512 tokens and completions of 1,024, one completion a device
and micro-step, accumulated, 8 sampled together on each device by transformers, beta 0. A cell has the first engine, of those
that cost ever more, under which the peak leaves a tenth of the device free, and that peak in GB; + what is offloaded to the
machine's own memory, for each device. A figure alone is that of single_gpu or multi_gpu.

Run: python benchmarks/what_fits.py [--sizes 0.5B 7B] [--trained LoRA]    (all of them: many minutes)
"""

import argparse
import functools
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


@functools.cache
def peak_gb(size: str, kind: str, processes: int, name: str) -> tuple[float, float]:
    """Of a device, and of a machine's memory for each device."""
    sharding, offloaded, _ = LAUNCHES[name]
    adapter = LoraConfig(r=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    work = Workload(
        recipe="grpo",
        config=config(size),
        prompt=512,
        completion=1024,
        batch=1,
        accumulation=8,
        sampled=8,
        # frozen weights lose nothing in bfloat16
        dtype=torch.float32 if kind == "full" else torch.bfloat16,
        amp=torch.bfloat16,
        peft_config=None if kind == "full" else adapter,
        quantized=memory.NF4_NESTED if kind == "QLoRA" else None,
        checkpointing=True,
        sharding=sharding,
        processes=processes,
        **offloaded,
    )
    found = memory.estimate(work)
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
    args = parser.parse_args()
    print("| Qwen2.5 | trained |", " | ".join(MACHINES), "|")
    print("|---|---|" + "---|" * len(MACHINES))
    for size in args.sizes:
        for kind in args.trained:
            cells = [cell(size, kind, *machine) for machine in MACHINES.values()]
            print(f"| {size} | {kind} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
