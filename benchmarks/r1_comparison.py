"""R1-Zero, R1, PPO, DPO and rejection sampling on the embedded base: what each makes of the same number of completions.

Five ways from one base to a policy, `--completions` sampled in training each, with the same prompts and the same rules of reward:
- R1-Zero: GRPO from the base (grpo/tiny).
- R1: a cold start on 128 demonstrations (r1/tiny), then GRPO.
- PPO: from the base, with a value model (ppo/tiny).
- DPO: best and worst of 8 samples a prompt from the base, once (recipes.sample --keep pairs, dpo/tiny).
- rejection sampling: the base's own accepted samples, at most 2 a prompt, imitated by SFT (recipes.sample, sft/tiny).

Each seed is a run of its own of every method, all as whole processes on one thread; the base is one. Held out are 1,000 sums,
one completion each at temperature 1. Writes a table in Markdown, with mean and standard deviation over the seeds, and a figure.
Needs the embedded base: python -m recipes.sft --config recipes/configs/sft/tiny-base.yaml. A run that was stopped goes on.

Run: python benchmarks/r1_comparison.py [--completions 7680] [--seeds 3] [--output_dir FOLDER] [--model outputs/sft-tiny-base]
         [--held_out 1000]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

STEP = 128  # completions of a GRPO step or a PPO batch
STEPS = 4  # optimizer steps of a PPO batch, by its config
SAMPLES = 8
GRPO, PPO = "recipes/configs/grpo/tiny.yaml", "recipes/configs/ppo/tiny.yaml"
SFT, DPO = "recipes/configs/sft/tiny.yaml", "recipes/configs/dpo/tiny.yaml"
COLD_START = ["--dataset_options", "{rows: 128}", "--num_train_epochs", "1", "--learning_rate", "1e-3"]
# held-out figure -> what the trainers log of it, and its name
CURVES = {
    "accuracy": ("rewards/math_answer/mean", "accuracy"),
    "format_rate": ("rewards/think_format/mean", "format rate"),
    "mean_length": ("completions/mean_length", "mean length, tokens"),
}
METHODS = {
    "zero": "R1-Zero: GRPO",
    "r1": "R1: cold start, then GRPO",
    "ppo": "PPO",
    "dpo": "DPO on sampled pairs",
    "rejection": "SFT on accepted samples",
}


def recipe(name: str, config: str, folder: Path, seed: int, *options: str) -> None:
    """One stage, unless it has been finished already; what a killed one left is gone on with, or begun again."""
    output = ["--output_dir", str(folder)]
    done = folder / "summary.json"
    if name == "sample":
        done = folder / "rows.jsonl"
        output = ["--output", str(done)]
    else:
        output += ["--resume_from_checkpoint", "true"]
    if done.exists():
        return
    command = [sys.executable, "-m", f"recipes.{name}", "--config", config, "--seed", str(seed), *output, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})


def run(method: str, model: str, held_out: str, out: Path, seed: int, completions: int) -> dict:
    """A method with a seed, from the base to its held-out figures."""
    folder, before, count = out / f"{method}-{seed}", out / f"{method}-{seed}-first", completions // STEP
    base = ["--model_name_or_path", model, "--held_out", held_out]
    grpo = ["--max_steps", str(count), "--report_to", "none", "--save_steps", str(count)]
    sample = ["--problems", str(completions // SAMPLES), "--samples", str(SAMPLES), *base]
    drawn = ["--dataset", str(before / "rows.jsonl"), "--held_out_dataset", "arithmetic"]
    if method == "zero":
        recipe("grpo", GRPO, folder, seed, *grpo, *base)
    elif method == "r1":
        recipe("sft", SFT, before, seed, *COLD_START, *base)
        recipe("grpo", GRPO, folder, seed, "--model_name_or_path", str(before), "--held_out", held_out, *grpo)
    elif method == "ppo":
        of_batches = ["--max_steps", str(STEPS * count), "--save_steps", str(STEPS * count)]
        recipe("ppo", PPO, folder, seed, *of_batches, *base)
    elif method == "dpo":
        recipe("sample", GRPO, before, seed, "--keep", "pairs", *sample)
        recipe("dpo", DPO, folder, seed, *drawn, "--max_steps", "-1", "--num_train_epochs", "1", *base)
    else:
        recipe("sample", GRPO, before, seed, "--most", "2", *sample)
        recipe("sft", SFT, folder, seed, *drawn, *base)
    summary = json.loads((folder / "summary.json").read_text())
    state = max(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1])) / "trainer_state.json"
    steps = [row for row in json.loads(state.read_text())["log_history"] if "reward" in row]
    curve = {key: [row[logged] for row in steps] for key, (logged, _) in CURVES.items() if steps}
    start = json.loads((before / "summary.json").read_text()) if method == "r1" else summary
    return summary["after"] | {"before": start["before"], "curve": curve, "train_seconds": summary["train_seconds"]}


def spread(values: list[float], digits: int = 3) -> str:
    text = f"{fmean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def table(results: dict[str, list[dict]]) -> str:
    lines = ["| | accuracy | format rate | mean length, tokens | KL from its start, nats |", "|---|---|---|---|---|"]
    bases = [r["before"] for r in results["zero"]]
    columns = (("accuracy", 3), ("format_rate", 3), ("mean_length", 1), ("kl", 2))
    rows = {"the base": bases} | {METHODS[method]: runs for method, runs in results.items()}
    for title, runs in rows.items():
        cells = [spread([r[key] for r in runs], digits) if key in runs[0] else "" for key, digits in columns]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: dict[str, list[dict]], completions: int, path: Path) -> None:
    """Over completions sampled: what they are while a method samples as it trains, and held out, before and at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    colors = ("tab:blue", "tab:red", "tab:orange", "tab:green", "tab:purple")
    for axis, (key, (_, label)) in zip(panels, CURVES.items(), strict=True):
        ends = {"the base, held out": ("0.4", 0, [r["before"][key] for r in results["zero"]])}
        for place, (color, (method, runs)) in enumerate(zip(colors, results.items(), strict=True), 1):
            ends[METHODS[method]] = (color, completions * (1 + 0.025 * place), [r[key] for r in runs])
            seeds = list(zip(*(r["curve"].get(key, []) for r in runs), strict=True))  # a step's values, a seed each
            mean, at = [fmean(values) for values in seeds], [STEP * (n + 1) for n in range(len(seeds))]
            axis.plot(at, mean, color=color, linewidth=1.2)
            if len(runs) > 1:
                low, high = ([m + sign * stdev(v) for m, v in zip(mean, seeds, strict=True)] for sign in (-1, 1))
                axis.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
        for title, (color, x, values) in ends.items():
            spread = stdev(values) if len(values) > 1 else None
            axis.errorbar(x, fmean(values), yerr=spread, color=color, fmt="o", markersize=4, capsize=2, label=title)
        axis.set(xlabel="completions sampled", ylabel=label, ylim=(0, 1.03) if key != "mean_length" else (0, None))
        axis.grid(alpha=0.25)
    panels[0].legend(loc="lower right", fontsize="small")
    figure.suptitle(
        "Lines: sampled in training. Dots: held out, before and at the end. Mean and standard deviation of the seeds.",
        fontsize="medium",
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=7680)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output_dir", type=Path, help="default: outputs/r1-comparison-<completions>")
    parser.add_argument("--model", default="outputs/sft-tiny-base")
    parser.add_argument("--held_out", default="1000", help="sums, one completion each")
    parser.add_argument("--figure", type=Path, default=Path("docs/r1_comparison.png"))
    args = parser.parse_args()
    os.chdir(Path(__file__).resolve().parents[1])
    args.output_dir = args.output_dir or Path(f"outputs/r1-comparison-{args.completions}")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    results = {method: [] for method in METHODS}
    for seed in range(args.seeds):
        for method in METHODS:
            results[method].append(r := run(method, args.model, args.held_out, args.output_dir, seed, args.completions))
            print(f"seed {seed} {method}: {r['accuracy']:.3f} in {r['train_seconds']:.0f} s", flush=True)
    print(f"\n{args.completions:,} completions sampled, {args.seeds} seeds:\n\n{table(results)}")
    draw(results, args.completions, args.figure)


if __name__ == "__main__":
    main()
