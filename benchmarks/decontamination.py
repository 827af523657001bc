"""The time and memory of decontamination: `--rows` rows against evaluation sets, as `dataset_options: {decontaminate: [...]}` does it.

The rows are those of a training set, over and over where it has fewer. Prints a line: rows, questions compared with, n-grams held,
rows found, seconds, and the peak memory of the process, of which loading Python's libraries takes a part (said too).

Run: python benchmarks/decontamination.py --train gsm8k --against gsm8k:test math500 aime24 amc23 [--rows 100000]
     python benchmarks/decontamination.py --train gsm8k_train.jsonl --against gsm8k_test.jsonl math500_test.jsonl
"""

import argparse
import resource
import time

import data
from data import _overlap


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--against", nargs="+", required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    args = parser.parse_args()
    rows = data.load(args.train, template=None)
    rows = rows.select([i % len(rows) for i in range(args.rows)])
    before, began = peak_mib(), time.perf_counter()
    others = [(other, data.load(*_overlap.parsed(other), template=None)) for other in args.against]
    index = _overlap.Index(others)
    found = sum(1 for _ in index.overlaps(rows))
    print(
        f"{len(rows):,} rows against {sum(len(r) for _, r in others):,} questions, {len(index.where):,} n-grams: {found:,} found, "
        f"{time.perf_counter() - began:.1f} s, peak {peak_mib():,.0f} MiB ({before:,.0f} before)"
    )


if __name__ == "__main__":
    main()
