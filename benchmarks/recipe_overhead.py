"""What does the recipe cost? Wall time of `recipes.grpo` against a bare TRL script with the same arguments.

Both run the tiny config as whole processes, in turn; the bare script below has the same model, rows, rewards and trainer
arguments, W&B offline included, and nothing else, so the recipe measures nothing held out. One thread each, since W&B's own
process runs beside them. Prints the wall times, then the median of the ratios pair by pair. Exits 1 when it is above LIMIT.
Needs the embedded base (`make demo` builds it). Nothing else should run meanwhile.

Run: python benchmarks/recipe_overhead.py [--pairs 3] [--steps 250] [--model outputs/sft-tiny-base]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.03
CONFIG = "recipes/configs/grpo/tiny.yaml"

BARE = """
import dataclasses
import sys
import yaml
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
import data
from rewards.math_answer import math_answer
from rewards.think_format import think_format

config, out, steps, model = sys.argv[1:]
known = {field.name for field in dataclasses.fields(GRPOConfig)}  # the other keys are the recipe's own
config = {key: value for key, value in yaml.safe_load(open(config)).items() if key in known}
config |= {"output_dir": out, "max_steps": int(steps), "reward_weights": [1.0, 0.2], "disable_tqdm": True}
trainer = GRPOTrainer(
    model=model,
    reward_funcs=[math_answer, think_format],
    args=GRPOConfig(**config),
    train_dataset=data.load("arithmetic", "train", template="plain"),
    processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
)
trainer.train()
trainer.save_model(out)
"""


def timed(command: list[str], folder: str) -> float:
    environment = os.environ | {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": folder,
        "OMP_NUM_THREADS": "1",
    }
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} failed:\n{done.stderr[-3000:]}")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--model", default="outputs/sft-tiny-base")
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        seconds = {}
        for name in ("recipe", "bare") if pair % 2 == 0 else ("bare", "recipe"):  # neither always goes first
            folder = tempfile.mkdtemp(prefix=f"overhead-{name}-")
            keys = {
                "output_dir": folder,
                "max_steps": options.steps,
                "model_name_or_path": options.model,
                "held_out": 0,
            }
            recipe = ["-m", "recipes.grpo", "--config", CONFIG]
            recipe += [word for key, value in keys.items() for word in (f"--{key}", str(value))]
            bare = ["-c", BARE, CONFIG, folder, str(options.steps), options.model]
            seconds[name] = timed([sys.executable, *(recipe if name == "recipe" else bare)], folder)
            shutil.rmtree(folder)
        ratios.append(seconds["recipe"] / seconds["bare"])
        print(f"recipe {seconds['recipe']:.1f} s, bare {seconds['bare']:.1f} s: {ratios[-1]:.3f}", flush=True)
    median = statistics.median(ratios)
    print(f"median ratio {median:.3f} (at most {LIMIT})")
    return int(median > LIMIT)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    sys.exit(main())
