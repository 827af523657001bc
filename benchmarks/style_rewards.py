"""What the rewards of style say of honest solutions: how many of GSM8K's and MATH-500's own the thresholds of recipes.sample refuse.

Prints, for language_consistency and repetition_penalty, the lowest values and the share of solutions under the threshold, then
what loops and other languages earn. One core, half a minute.

Run: python benchmarks/style_rewards.py [--gsm8k train.jsonl] [--math500 test.jsonl]    (from the hub otherwise)
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import _source
from recipes.sample import ACCEPT
from rewards.language_consistency import language_consistency
from rewards.repetition_penalty import repetition_penalty

REWARDS = {"language_consistency": language_consistency, "repetition_penalty": repetition_penalty}
GAMES = {
    "Spanish thoughts": "Primero sumo los dos números y después resto lo que se ha gastado, así que quedan cinco manzanas.",
    "Chinese thoughts": "我们先把两个数加起来，然后减去花掉的部分。",
    "half of the words Chinese": "We add the two numbers first then 我们减去花掉的",
    "'I am thinking. ' x 20": "I am thinking. " * 20,
    "我想想 x 100": "我想想" * 100,
    "a counter": " ".join(str(n) for n in range(300)),
    "'ok'": "ok",
}


def solutions(name: str, split: str, column: str, config: str | None = None) -> list[str]:
    rows = _source.read(Path(name) if Path(name).is_file() else name, split, config)
    return [re.sub(r"<<.*?>>", "", text).partition("####")[0] for text in rows[column]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", default="openai/gsm8k")
    parser.add_argument("--math500", default="HuggingFaceH4/MATH-500")
    args = parser.parse_args()
    sets = {
        "GSM8K train": solutions(args.gsm8k, "train", "answer", "main"),
        "MATH-500": solutions(args.math500, "test", "solution"),
    }
    print("| | solutions | lowest | 1 in 1,000 | 1 in 100 | refused |\n|---|---|---|---|---|---|")
    for reward, score in REWARDS.items():
        for name, texts in sets.items():
            values = sorted(score([f"<think>{text}</think><answer>0</answer>" for text in texts]))
            refused = sum(value < ACCEPT[reward] for value in values)
            low = " | ".join(f"{values[int(share * len(values))]:.2f}" for share in (0, 0.001, 0.01))
            print(f"| `{reward}` under {ACCEPT[reward]:g}, {name} | {len(values):,} | {low} | {refused} |")
    print("\n| thoughts | " + " | ".join(f"`{reward}`" for reward in REWARDS) + " |\n|---|---|---|")
    for name, text in GAMES.items():
        (language,), (repetition,) = (f([f"<think>{text}</think><answer>0</answer>"]) for f in REWARDS.values())
        print(f"| {name} | {language:.2f} | {repetition:.2f} |")


if __name__ == "__main__":
    main()
