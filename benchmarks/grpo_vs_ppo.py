"""GRPO against PPO on the embedded base: accuracy per completion and per second, and peak memory.

Both run their tiny configs as whole processes, in turn, with the same base, rewards, prompts, completions and seeds;
GRPO samples groups of 8, PPO one completion a prompt. Prints a table in Markdown (mean and spread over the seeds) and
draws the training accuracy over completions and over seconds, at the run's mean pace. Peak memory is that of the whole
process, held-out sampling included. One thread each. Needs the embedded base (`make demo`
builds it). Nothing else should run meanwhile.

Run: python benchmarks/grpo_vs_ppo.py [--steps 60] [--seeds 3] [--figure docs/grpo_vs_ppo.png] [--model outputs/sft-tiny-base]
         [--held_out 1000]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev

COMPLETIONS = 128  # sampled together, by both
STEPS = {"grpo": 1, "ppo": 4}  # optimizer steps on them, by the configs
TARGET = 0.8
WINDOW = 5
CASES = ("grpo", "ppo")


def run(case: str, keys: list[str], steps: int, seed: int, folder: Path) -> dict:
    """One whole training run: its curve of accuracy, held-out figures, seconds and peak memory in MiB."""
    last = steps * STEPS[case]
    length = ["--max_steps", str(last), "--save_steps", str(last)]
    options = ["--output_dir", str(folder), "--seed", str(seed), "--report_to", "none"]
    command = [
        sys.executable,
        "-m",
        f"recipes.{case}",
        "--config",
        f"recipes/configs/{case}/tiny.yaml",
        *keys,
        *length,
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{case}, seed {seed}: failed")
    state = json.loads((folder / f"checkpoint-{last}" / "trainer_state.json").read_text())
    key = "rewards/math_answer/mean"
    curve = [row[key] for row in state["log_history"] if key in row]
    return json.loads((folder / "summary.json").read_text()) | {"curve": curve, "mib": usage.ru_maxrss / 1024}


def smooth(curve: list[float]) -> list[float]:
    return [fmean(curve[max(0, i - WINDOW + 1) : i + 1]) for i in range(len(curve))]


def steps_to(curve: list[float], target: float) -> int | None:
    """Steps until the mean accuracy of the last few first reached the target."""
    return next((i + 1 for i, value in enumerate(smooth(curve)) if value >= target), None)


def spread(values: list, digits: int) -> str:
    if None in values:
        return f"reached in {len(values) - values.count(None)} of {len(values)} runs"
    text = f"{fmean(values):,.{digits}f}"
    return f"{text} ± {stdev(values):,.{digits}f}" if len(values) > 1 else text


def table(results: dict[str, list[dict]]) -> str:
    lines = [
        f"| | held-out accuracy, before | after | completions to {TARGET:g} | seconds to {TARGET:g} | seconds in all | peak memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, runs in results.items():
        reached = [steps_to(r["curve"], TARGET) for r in runs]
        pace = [r["train_seconds"] / len(r["curve"]) for r in runs]
        cells = [
            spread([r["before"]["accuracy"] for r in runs], 3),
            spread([r["after"]["accuracy"] for r in runs], 3),
            spread([n and n * COMPLETIONS for n in reached], 0),
            spread([n and n * p for n, p in zip(reached, pace, strict=True)], 0),
            spread([r["train_seconds"] for r in runs], 0),
            spread([r["mib"] for r in runs], 0),
        ]
        lines.append(f"| {case.upper()} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: dict[str, list[dict]], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for (case, runs), color in zip(results.items(), ("tab:blue", "tab:orange"), strict=True):
        for i, r in enumerate(runs):
            steps, pace = range(1, len(r["curve"]) + 1), r["train_seconds"] / len(r["curve"])
            style = {"color": color, "alpha": 0.8, "linewidth": 1.3, "label": case.upper() if i == 0 else None}
            axes[0].plot([n * COMPLETIONS for n in steps], smooth(r["curve"]), **style)
            axes[1].plot([n * pace for n in steps], smooth(r["curve"]), **style)
    axes[0].set(xlabel="completions sampled", ylabel=f"training accuracy, mean of {WINDOW} steps", ylim=(0, 1.02))
    axes[1].set(xlabel="seconds, 1 thread")
    for axis in axes:
        axis.grid(alpha=0.25)
    axes[0].legend(loc="lower right")
    figure.suptitle("The embedded base, a line a seed")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", default="docs/grpo_vs_ppo.png")
    parser.add_argument("--model", default="outputs/sft-tiny-base")
    parser.add_argument("--held_out", default="1000")
    args = parser.parse_args()
    os.chdir(Path(__file__).resolve().parents[1])
    keys = ["--model_name_or_path", args.model, "--held_out", args.held_out]
    results = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            for case in CASES:
                results[case].append(r := run(case, keys, args.steps, seed, Path(folder) / f"{case}-{seed}"))
                print(f"seed {seed} {case}: {r['after']['accuracy']:.3f} in {r['train_seconds']:.0f} s", flush=True)
    print(f"\n{args.steps} steps of {COMPLETIONS} completions, {args.seeds} seeds:\n\n{table(results)}")
    draw(results, args.figure)


if __name__ == "__main__":
    main()
