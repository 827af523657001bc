"""`make demo`: build the embedded base, evaluate it, train it by GRPO, evaluate it again, and show the difference.

Every stage is a command that anyone could type, and is printed as such. An interrupted demo continues where it was.
Writes outputs/demo/: summary.json, report.md, reward_curve.png, and the run itself in grpo-tiny/.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from recipes.shared import run_folder

BASE_CONFIG, CONFIG = "recipes/configs/sft/tiny-base.yaml", "recipes/configs/grpo/tiny.yaml"
BASE, OUT = Path("outputs/sft-tiny-base"), Path("outputs/demo")


def main() -> None:
    if (OUT / run_folder.SUMMARY).exists():
        print(f"{OUT} holds a finished demo, shown again below; to run it afresh: rm -r {OUT}\n")
        print((OUT / "report.md").read_text())
        return
    if not (BASE / run_folder.SUMMARY).exists():
        stage("1/4  training the embedded base model from scratch, on worked sums of mixed quality")
        run("recipes.sft", "--config", BASE_CONFIG, "--resume_from_checkpoint", "true")
    stage("2/4  evaluating the base on held-out sums")
    base = evaluate(BASE)
    stage("3/4  GRPO, only from rule-based rewards")
    options = ["--output_dir", str(OUT / "grpo-tiny"), "--resume_from_checkpoint", "true", "--held_out", "0"]
    run("recipes.grpo", "--config", CONFIG, *options)
    stage("4/4  evaluating the trained model on the same sums")
    trained = evaluate(OUT / "grpo-tiny")

    grpo = json.loads((OUT / "grpo-tiny" / run_folder.SUMMARY).read_text())
    report = describe(base, trained, grpo)
    shutil.copy(OUT / "grpo-tiny" / "reward_curve.png", OUT / "reward_curve.png")
    (OUT / "report.md").write_text(report)
    run_folder.write_summary(
        str(OUT),
        {
            "base": {k: v for k, v in base.items() if k != "examples"},
            "trained": {k: v for k, v in trained.items() if k != "examples"},
            "problems": base["problems"],
            "train_seconds": grpo["train_seconds"],
            "git_commit": grpo["git_commit"],
        },
    )
    print(
        f"\n{report}\nThe curve: {OUT}/reward_curve.png. Everything the model wrote: {OUT}/grpo-tiny/completions.jsonl."
    )


def stage(title: str) -> None:
    print(f"\n== {title}", flush=True)


def run(module: str, *arguments: str, capture: bool = False) -> str | None:
    print("$ " + shlex.join(["python", "-m", module, *arguments]), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE if capture else None, text=True
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def evaluate(model: Path) -> dict:
    options = ["--config", CONFIG, "--model_name_or_path", str(model), "--json"]
    result = json.loads(run("recipes.evaluate", *options, capture=True).splitlines()[-1])  # W&B may say a line before
    stderr, format_rate = result["stderr"], result["format_rate"]
    print(
        f"accuracy {result['accuracy']:.3f} ± {stderr:.3f}, format rate {format_rate:.3f}, {result['seconds']:.0f} s",
        flush=True,
    )
    return result


def describe(base: dict, trained: dict, grpo: dict) -> str:
    """The table and the samples, in Markdown that reads well in a terminal too."""
    lines = [
        f"{base['problems']} held-out sums x {base['samples']} samples, before and after {grpo['steps']} GRPO steps",
        f"({grpo['completions']} completions, {grpo['train_seconds']:.0f} s):",
        "",
        "|                 |  base          |  trained       |",
        "|-----------------|----------------|----------------|",
    ]
    for label, key in (("accuracy", "accuracy"), ("format rate", "format_rate"), ("cut off", "truncation_rate")):
        cells = [f"{r[key]:.3f} ± {r['stderr']:.3f}" if key == "accuracy" else f"{r[key]:.3f}" for r in (base, trained)]
        lines.append(f"| {label:<15} | {cells[0]:<14} | {cells[1]:<14} |")
    lengths = [f"{r['mean_length']:.1f} tokens" for r in (base, trained)]
    lines += [f"| {'mean length':<15} | {lengths[0]:<14} | {lengths[1]:<14} |", "", "What it writes:", "", "```text"]
    for before, after in zip(base["examples"], trained["examples"], strict=True):
        lines += [before["prompt"].strip(), f"  base     {_marked(before)}", f"  trained  {_marked(after)}"]
    return "\n".join([*lines, "```", ""])


def _marked(example: dict) -> str:
    verdict = "right" if next(iter(example["rewards"].values())) == 1.0 else "wrong"
    return f"[{verdict}] {example['completion'].strip()}"


if __name__ == "__main__":
    main()
