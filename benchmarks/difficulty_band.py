"""GRPO on all prompts, and on those that the base solves now and then: held-out accuracy for the same number of sampled completions.

The prompts are sums of `--sizes` digits, as many of each: the embedded base has seen two digits only, so that of one, two and three
digits some are solved always and many never, as in a real set; sums of eight digits it never learns in such a run. With the filter, `recipes.sample --keep band` samples each prompt first, and GRPO
takes as many fewer steps as that cost: both have sampled the same number of completions in the end. Held out are sums of
the same sizes. Prints a table in Markdown, mean and spread over the seeds. One thread each. Needs the embedded base
(`make demo` builds it). Nothing else should run meanwhile.

Run: python benchmarks/difficulty_band.py [--steps 100] [--seeds 3] [--prompts 600] [--samples 4] [--sizes 1 2 3]
         [--held_out 300] [--model outputs/sft-tiny-base]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev

import data

COMPLETIONS = 128  # sampled a step, by the config


def write_sums(path: Path, split: str, sizes: list[int], rows: int, seed: int) -> Path:
    """`rows` sums of each size in turn; where there are fewer of a size, the same ones again."""
    sets = [data.load("arithmetic", split, template=None, digits=digits, seed=seed) for digits in sizes]
    lines = [
        json.dumps({"prompt": one[i % len(one)]["prompt"], "answer": one[i % len(one)]["answer"]})
        for i in range(rows)
        for one in sets
    ]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def run(recipe: str, *argv: str) -> str:
    command = [sys.executable, "-m", f"recipes.{recipe}", "--config", "recipes/configs/grpo/tiny.yaml", *argv]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def one_seed(args: argparse.Namespace, seed: int, folder: Path) -> dict:
    """Both runs' held-out accuracy, before and after, and what the filter kept and cost."""
    train = write_sums(folder / "train.jsonl", "train", args.sizes, args.prompts // len(args.sizes), seed)
    test = write_sums(folder / "test.jsonl", "test", args.sizes, args.held_out, 0)
    common = [
        "--model_name_or_path",
        args.model,
        "--dataset_options",
        "{}",
        "--seed",
        str(seed),
        "--max_completion_length",
        "64",
    ]
    band = folder / "band.jsonl"
    sampling = ["--dataset", str(train), "--output", str(band), "--keep", "band", "--samples", str(args.samples)]
    run("sample", *common, *sampling)
    summary = json.loads(band.with_suffix(".summary.json").read_text())
    spent = round(summary["completions"] / COMPLETIONS)
    found = {
        "kept": summary["kept"] / summary["prompts"],
        "sampled": summary["completions"],
        "useful": summary["useful_groups"],
    }
    held_out = [
        "--held_out",
        str(args.held_out * len(args.sizes)),
        "--held_out_dataset",
        str(test),
        "--report_to",
        "none",
    ]
    for name, dataset, steps in (("all", train, args.steps), ("band", band, args.steps - spent)):
        out = folder / name
        length = ["--max_steps", str(steps), "--save_steps", str(steps), "--output_dir", str(out)]
        run("grpo", *common, *held_out, *length, "--dataset", str(dataset))
        result = json.loads((out / "summary.json").read_text())
        found[name] = {"steps": steps, "before": result["before"]["accuracy"], "after": result["after"]["accuracy"]}
    return found


def spread(values: list[float]) -> str:
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="of the run without a filter, 128 completions each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--samples", type=int, default=4, help="completions a prompt for its pass rate")
    parser.add_argument("--held_out", type=int, default=300, help="sums of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 3], help="digits of the sums")
    parser.add_argument("--model", default="outputs/sft-tiny-base")
    args = parser.parse_args()
    if args.steps * COMPLETIONS <= args.prompts * args.samples:
        sys.exit(f"--steps {args.steps}: the filter's {args.prompts * args.samples} completions leave none to train on")
    found = []
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            found.append(one_seed(args, seed, Path(folder)))
        print(f"seed {seed}: {json.dumps(found[-1])}", file=sys.stderr, flush=True)
    print(
        f"{args.steps * COMPLETIONS:,} completions in all, {args.seeds} seeds; held out: {args.held_out * len(args.sizes)} sums of {', '.join(map(str, args.sizes))} digits\n"
    )
    print(
        "| prompts | completions for the filter | GRPO steps | groups with an advantage, forecast | accuracy before | after |"
    )
    print("|---|---|---|---|---|---|")
    for name, when, said in (("all", "before", "all"), ("band", "after", "band")):
        share = "" if name == "all" else f", {spread([one['kept'] for one in found])} of them"
        cost = "0" if name == "all" else f"{found[0]['sampled']:,}"
        useful = spread([one["useful"][when] for one in found])
        before, after = (spread([one[name][k] for one in found]) for k in ("before", "after"))
        print(f"| {said}{share} | {cost} | {found[0][name]['steps']} | {useful} | {before} | {after} |")
    gains = [one["band"]["after"] - one["all"]["after"] for one in found]
    print(f"\nband less all, seed by seed: {', '.join(f'{gain:+.3f}' for gain in gains)}")


if __name__ == "__main__":
    main()
