"""What works on this machine: a few steps of each trainer, really taken, and everything else that a run may need, tried.

The first thing to run on a new machine. It needs no network. On a CPU it does what a CPU can; on a GPU it has not run yet. Models are
the embedded base with random weights, and SmolLM2-135M where the package that carries it is installed: what is asked is whether a step
works, not what it learns. Each line is one question:
  pass  it was tried, and works
  warn  it works, in a way that you should know of
  fail  it was tried, and doesn't; the reason, and what to do
  skip  it was not tried, and why
Steps say their seconds and, on a GPU, the peak of the memory that torch allocated in the largest process, next to recipes.check's
estimate. Ends with exit code 2 where anything fails; the logs of what failed are kept.

Run: python -m recipes.doctor [--only grpo] [--json]
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from recipes.preflight.findings import Findings, Skipped
from recipes.preflight.machine import Machine
from recipes.preflight.questions import finish
from recipes.shared.run_config import RunConfig


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", default="", help="ask only what holds this text, such as grpo")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="r1-doctor-"))
    machine, found = Machine(folder), Findings(RunConfig("grpo"))
    asked = [(what, answer) for what, answer in machine.questions() if args.only.lower() in what.lower()]
    if not asked:
        shutil.rmtree(folder)
        parser.error(
            f"--only {args.only!r}: no such question; there are {'; '.join(what for what, _ in machine.questions())}"
        )
    for n, (what, answer) in enumerate(asked, 1):
        print(f"{n}/{len(asked)}  {what} ...", file=sys.stderr, flush=True)
        with found.question(what):
            try:
                answer(found)
            except (ValueError, Skipped):
                raise
            except Exception as error:  # whatever a broken installation raises is what is asked for
                raise ValueError(f"{type(error).__name__}: {error}") from error
    if not any(status == "fail" for status, _, _ in found.lines):
        shutil.rmtree(folder)
    finish(found, args.json)


if __name__ == "__main__":
    main()
