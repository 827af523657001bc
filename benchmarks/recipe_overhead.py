"""What does the recipe cost? Wall time of `recipes.grpo` against a bare TRL script with the same arguments.

Both run the tiny config as whole processes, in turn; the bare script below has the same model, rows, rewards and trainer
arguments, W&B offline included, and nothing else. One thread each, since W&B's own process runs beside them. Prints the wall times, then the median of the ratios pair by pair.
Exits 1 when it is above LIMIT. Needs the embedded base (`make demo` builds it). Nothing else should run meanwhile.

Run: python benchmarks/recipe_overhead.py [--pairs 3] [--steps 250]
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
import sys
import yaml
from datasets import Dataset
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
import data
from rewards.math_answer import math_answer
from rewards.think_format import think_format

config = yaml.safe_load(open(sys.argv[1]))
for key in ("dataset", "template", "rewards"):
    del config[key]
model = config.pop("model_name_or_path")
config |= {"output_dir": sys.argv[2], "max_steps": int(sys.argv[3]), "reward_weights": [1.0, 0.2], "disable_tqdm": True}
trainer = GRPOTrainer(
    model=model,
    reward_funcs=[math_answer, think_format],
    args=GRPOConfig(**config),
    train_dataset=data.load("arithmetic", "train", template="plain"),
    processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
)
trainer.train()
trainer.save_model(sys.argv[2])
"""


def timed(command: list[str], folder: str) -> float:
    environment = os.environ | {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": folder,
        "OMP_NUM_THREADS": "1",
    }
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        seconds = {}
        for name in ("recipe", "bare") if pair % 2 == 0 else ("bare", "recipe"):  # neither always goes first
            folder = tempfile.mkdtemp(prefix=f"overhead-{name}-")
            recipe = [
                "-m",
                "recipes.grpo",
                "--config",
                CONFIG,
                "--output_dir",
                folder,
                "--max_steps",
                str(options.steps),
            ]
            bare = ["-c", BARE, CONFIG, folder, str(options.steps)]
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
