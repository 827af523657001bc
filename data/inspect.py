"""What is in a dataset, before anything trains on it: columns, prompts as the model sees them, lengths, golds, duplicates, languages.

Give it a dataset's name, a file, or a mixture, `[{name: gsm8k, weight: 1}, ...]`, and the keys that a run's YAML has for it. Golds
are graded by the rewards that the columns are for, or those named: a row can be graded where an empty completion earns a
number, and its gold is right where a completion that holds it earns everything. No weights are loaded, and without --tokenizer no
torch: lengths are in characters then.

Run: python -m data.inspect gsm8k [--template r1_zero --tokenizer Qwen/Qwen2.5-0.5B] [--against math500 gsm8k:test]
     python -m data.inspect math500 --dataset_options '{path: MATH-500/test.jsonl}'
"""

import argparse
import functools
import json
import math
import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median

import yaml
from datasets import Dataset

import data
import rewards
from data import _overlap, _pass_rate
from recipes.preflight import perfect_answers
from recipes.shared import tokens
from rewards.language_consistency import LANGUAGES, MATHEMATICS, detector

REWARDS = {"answer": "math_answer", "tests": "code_tests", "nums": "countdown", "entry": "reasoning_gym"}
DRESSED = 1000  # rows whose gold is graded as a perfect completion: programs take their time
READ = 2000  # rows whose language is guessed
BARS = 16
SHOWN = 4000  # characters of a prompt
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ANSWERS = ("completion", "chosen", "rejected")


def main(argv: list[str] | None = None) -> None:
    args = parsed(argv)
    try:
        look(args)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("dataset", help="a module of data/, a hub name, a local file, or the list of a mixture")
    parser.add_argument("--split", default=None, help="train, or else the first that the dataset has")
    parser.add_argument(
        "--template", choices=(*data.TEMPLATES, "null"), default="chat", help="how a question becomes a prompt"
    )
    parser.add_argument(
        "--tokenizer", help="a model's name or folder: lengths in tokens, prompts through its chat template"
    )
    parser.add_argument("--dataset_options", type=yaml.safe_load, default={}, help="as in a run's YAML")
    parser.add_argument("--columns", type=yaml.safe_load, default=None, help="as in a run's YAML")
    parser.add_argument(
        "--rewards", nargs="*", default=None, help="which grade it; else those that its columns are for"
    )
    parser.add_argument(
        "--against", nargs="*", default=[], help="sets or files whose wording must not be in it, name or name:split"
    )
    parser.add_argument("--examples", type=int, default=5, help="prompts to show")
    parser.add_argument("--plot", help="where the histogram goes; else outputs/inspect/<name>-<split>.png")
    return parser.parse_args(argv)


def look(args: argparse.Namespace) -> None:
    name = yaml.safe_load(args.dataset) if args.dataset.startswith("[") else args.dataset
    split = args.split or next((s for s in ("train", *data.splits(name)) if s in data.splits(name)), "train")
    settings = {"columns": args.columns, **(args.dataset_options or {})}
    bare, how = data.read(name, split, template=None, **settings)
    rows = data.rendered(bare, None if args.template == "null" else args.template)
    tokenizer = args.tokenizer and load_tokenizer(args.tokenizer)
    say("rows", f"{data.named(name)}, {split}: {len(rows):,}, read as {how}")
    say("columns", *columns(bare))
    if "unreadable" in bare.column_names:
        say("unreadable", *reasons(bare["unreadable"][:]))
    measured, unit = lengths(rows, tokenizer)
    for part, values in measured.items():
        say(part, spread(values, unit), *bars(values))
    for reward in (
        args.rewards if args.rewards is not None else [r for c, r in REWARDS.items() if c in bare.column_names]
    ):
        say("golds", *golds(rows, reward))
    if _pass_rate.COLUMN in bare.column_names:
        rates = [rate for rate in bare[_pass_rate.COLUMN] if rate is not None]
        say(
            "pass rates",
            f"of {len(rates):,} rows, {sum(0 < r < 1 for r in rates):,} above 0 and below 1",
            *_pass_rate.histogram(rates),
        )
    say("duplicates", *duplicates(bare, name, split, settings))
    say("languages", languages(bare))
    for other in args.against:
        say("overlap", *overlaps(bare, other))
    for i in range(0, len(rows), max(1, len(rows) // max(1, args.examples)))[: args.examples]:
        print(f"\nexample: row {i}")
        print(harmless(example(rows[i], tokenizer)))
    plot = Path(
        args.plot or f"outputs/inspect/{re.sub(r'[^A-Za-z0-9_.-]+', '-', data.named(name)).strip('-')}-{split}.png"
    )
    draw(measured, unit, f"{data.named(name)}, {split}: {len(rows):,} rows", plot)
    print(f"\nsee {plot}")


def load_tokenizer(name: str):
    from transformers import AutoTokenizer  # takes seconds

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer={name!r} can't be loaded ({str(error).splitlines()[0]})") from error


def say(what: str, *lines: str) -> None:
    for i, line in enumerate(lines):
        print(f"{what if i == 0 else '':<12} {harmless(line)}")


def harmless(text: str) -> str:
    """The text with what would steer a terminal, or turn the direction of what follows, written out."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def columns(rows: Dataset) -> list[str]:
    """Each column, its type, and in how many rows it has nothing."""
    found = []
    for column, kind in rows.features.items():
        empty = sum(value is None or value in ("", []) for value in rows[column])
        kind = re.sub(r"Value\('(\w+)'\)", r"\1", str(kind))
        found.append(f"{column}: {kind}" + f", nothing in {empty:,} rows" * bool(empty))
    return found


def reasons(lacks: list[str | None]) -> list[str]:
    """What rows lack that can't be read, with the numbers of the first."""
    where = {}
    for i, lack in enumerate(lacks):
        if lack is not None:
            where.setdefault(lack, []).append(i)
    return [
        f"{len(found):,} have {lack}: {numbers(found)}"
        for lack, found in sorted(where.items(), key=lambda w: -len(w[1]))
    ]


def numbers(rows: list[int]) -> str:
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:5]))}" + f" and {len(rows) - 5:,} more" * (
        len(rows) > 5
    )


def lengths(rows: Dataset, tokenizer) -> tuple[dict[str, list[int]], str]:
    """{column: the length of each row's, in tokens, or in characters without a tokenizer}, and which of them."""
    found = {}
    for column in ("prompt", *(a for a in ANSWERS if a in rows.column_names)):
        values = [value for value in rows[column] if value]
        if tokenizer is None:
            found[column] = [len(text_of(value)) for value in values]
        elif column == "prompt":
            found[column] = [len(ids) for ids in tokens.prompt_ids(values, tokenizer)]
        else:
            texts = [text_of(value) for value in values]
            found[column] = (
                [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
            )
    return {column: values for column, values in found.items() if values}, "tokens" if tokenizer else "characters"


def text_of(value: str | list[dict]) -> str:
    return value if isinstance(value, str) else "\n".join(m["content"] for m in value)


def spread(values: list[int], unit: str) -> str:
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)))]
    return f"{ordered[0]:,} to {ordered[-1]:,} {unit}, half of them up to {median(ordered):,.0f}, 99 % up to {high:,}"


def bars(values: list[int]) -> list[str]:
    """A histogram up to the 99th percentile, whose last bar holds the longer ones too."""
    ordered = sorted(values)
    top = ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)))]
    step = max(1, math.ceil((top - ordered[0] + 1) / BARS))
    counts = Counter(min((v - ordered[0]) // step, (top - ordered[0]) // step) for v in values)
    edges = [ordered[0] + n * step for n in range(max(counts) + 1)]
    labels = [f"{edge:>7,} " for edge in edges[:-1]] + [f"{edges[-1]:>7,}+"]
    return [_pass_rate.bar(label, counts[n], max(counts.values())) for n, label in enumerate(labels)]


def golds(rows: Dataset, name: str) -> list[str]:
    """How many golds the reward can grade, and of how many a perfect completion earns everything; the others by example."""
    reward = rewards.load(name)
    if missing := [c for c in rewards.columns_of(reward) if c not in rows.column_names]:
        raise ValueError(
            f"reward {name!r} needs the column {missing[0]!r}, but the dataset has {', '.join(rows.column_names)}"
        )
    values = paid(reward, rows, [""] * len(rows))
    known = [i for i, value in enumerate(values) if value is not None]
    shown = [c for c in rewards.columns_of(reward) if c != "tests"]
    broken = [i for i, value in enumerate(values) if value is None]
    lines = [f"{name}: {len(known):,} of {len(rows):,} can be graded ({len(known) / len(rows):.2%})"]
    lines += [
        f"  not row {i}: {', '.join(f'{c}={rows[i][c]!r:.80}' for c in shown) or 'its tests'}" for i in broken[:5]
    ]
    some = rows.select(known[:: max(1, len(known) // DRESSED)][:DRESSED])
    perfect = rewards.perfect_of(name)
    dressed = [perfect_answers.completion(row, of_reward=perfect) for row in some]
    have = [i for i, text in enumerate(dressed) if text is not None]
    if not have:
        return lines
    earned = paid(reward, some.select(have), [dressed[i] for i in have])
    best = rewards.best_of(name)
    short = [(known[:: max(1, len(known) // DRESSED)][have[n]], e) for n, e in enumerate(earned) if e != best]
    lines.append(
        f"  {len(earned) - len(short):,} of {len(earned):,} golds, dressed as a perfect completion, earn {best:g}"
    )
    lines += [f"  not row {i}: {', '.join(f'{c}={rows[i][c]!r:.80}' for c in shown)}, earns {e}" for i, e in short[:5]]
    return lines


def paid(reward, rows: Dataset, texts: list[str]) -> list[float | None]:
    kept = {c: list(rows[c]) for c in rows.column_names if c not in (*ANSWERS, "prompt", "unreadable", *rewards.PASSED)}
    return reward(completions=texts, prompts=list(rows["prompt"]), **kept) if texts else []


def duplicates(rows: Dataset, name: str | list, split: str, settings: dict) -> list[str]:
    """Prompts that stand there more than once, in this split or in the dataset's others too."""
    own = keys(rows)
    counts = Counter(key for key in own if key)
    lines = [f"{sum(counts.values()) - len(counts):,} of {len(rows):,} rows repeat an earlier one's prompt"]
    if "answer" in rows.column_names:
        answers = {}
        for key, answer in zip(own, rows["answer"], strict=True):
            answers.setdefault(key, set()).add(answer)
        differing = sum(len(found) > 1 for key, found in answers.items() if key)
        lines[0] += f", {differing:,} prompts with different answers" * bool(differing)
    for other in data.splits(name):
        if other != split and settings.get("path") is None:
            try:
                others = Counter(keys(data.load(name, other, template=None, **settings)))
            except ValueError as error:
                lines.append(f"with {other}: not looked at ({' '.join(str(error).split())[:120]})")
                continue
            shared = [key for key in counts if key in others]
            lines.append(f"with {other}: {len(shared):,} prompts are in both")
    return lines


def keys(rows: Dataset) -> list[int | None]:
    """A number for each prompt, the same for the same words."""
    texts = (_overlap.asked(prompt) for prompt in rows["prompt"])
    return [hash(" ".join(text.split()).lower()) if text.strip() else None for text in texts]


def languages(rows: Dataset) -> str:
    """The languages of the questions, guessed from their words without mathematics; of short ones nothing is said."""
    some = rows.select(range(0, len(rows), max(1, len(rows) // READ)))
    found = Counter(language(_overlap.asked(prompt)) for prompt in some["prompt"] if prompt)
    known = sum(found.values()) or 1
    return ", ".join(f"{name} {n / known:.1%}" for name, n in found.most_common(6)) + f" (of {len(some):,} rows)"


@functools.cache
def language(text: str) -> str:
    words = MATHEMATICS.sub(" ", text)
    if sum(c.isalpha() for c in words) < 20:
        return "too short"
    return detector(" ".join(LANGUAGES)).classify(words[:2000].lower())[0]


def overlaps(rows: Dataset, other: str) -> list[str]:
    """How many rows share wording with another set, and the first of them beside what they share it with."""
    name, split = _overlap.parsed(other)
    others = data.load(name, split, template=None)
    found = list(_overlap.Index([(other, others)]).overlaps(rows))
    lines = [
        f"{len(found):,} of {len(rows):,} rows share {_overlap.SIZE} words in a row with one of {other}'s {len(others):,}"
    ]
    for i, _, j in found[:3]:
        both = shared(_overlap.asked(rows[i]["prompt"]), _overlap.asked(others[j]["prompt"]))
        lines.append(f"  row {i} and its row {j}: {both!r:.150}")
    return lines


def shared(a: str, b: str) -> str:
    """The first words that both texts have in a row."""
    in_b, words = _overlap.grams(b), _overlap.words(a)
    size = min(_overlap.SIZE, len(words))
    runs = (words[i : i + size] for i in range(len(words) - size + 1))
    return " ".join(next((run for run in runs if hash(tuple(run)) in in_b), []))


def example(row: dict, tokenizer) -> str:
    prompt = row["prompt"]
    if row.get("unreadable"):
        return f"(it has {row['unreadable']})"
    if tokenizer is not None:
        text = tokens.prompt_texts([prompt], tokenizer)[0]
    else:
        text = prompt if isinstance(prompt, str) else "\n".join(f"[{m['role']}] {m['content']}" for m in prompt)
    others = {c: v for c, v in row.items() if c not in ("prompt", "unreadable")}
    return "\n".join(
        [clipped(text, SHOWN), *(f"  {column} = {clipped(value, 300)}" for column, value in others.items())]
    )


def clipped(value, most: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def draw(measured: dict[str, list[int]], unit: str, title: str, path: Path) -> None:
    from matplotlib.figure import Figure  # no pyplot: no display is looked for, and it loads in half the time

    figure = Figure(figsize=(4.6 * max(1, len(measured)), 3.4), layout="constrained")
    axes = figure.subplots(1, max(1, len(measured)), squeeze=False)[0]
    for axis, (column, values) in zip(axes, measured.items(), strict=False):
        axis.hist(values, bins=40, color="tab:blue")
        for share, style in ((0.5, "-"), (0.99, "--")):
            at = sorted(values)[min(len(values) - 1, math.ceil(share * len(values)))]
            axis.axvline(at, color="tab:red", linestyle=style, linewidth=1, label=f"{share:.0%} up to {at:,}")
        axis.set(title=column, xlabel=unit, ylabel="rows")
        axis.legend(fontsize="small")
        axis.grid(alpha=0.25)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
