"""The check before a run: whether it fits, adds up and is wired right, from its config, its launch file and a few rows.

No weights are loaded. Each line of the table is one question:
  pass  it is right
  warn  it may be meant, but read it
  fail  the run would end with an error, or learn nothing, or run out of memory; what to change is said
  skip  it could not be looked at here, such as a model on the hub without a network
Ends with exit code 2 where anything fails.

Run: python -m recipes.check --config recipes/configs/grpo/tiny.yaml [--launch accelerate_configs/zero2.yaml]
         [--recipe grpo] [--device_gb 24] [--json] [--key value ...]
     or any recipe's own command with --dry_run behind it; through accelerate it is checked as it was launched.
"""

import argparse
import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import textwrap
from dataclasses import MISSING, asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recipes import _common as common
from recipes import _cost, _wiring
from recipes._config import TRAINING, classes_of, merged
from recipes._findings import Check
from recipes._launch import Launch, as_launched

COMPARED = ("torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "datasets", "bitsandbytes")


def run(recipe: str, argv: list[str], launch: Launch, device_gb: float | None = None) -> Check:
    """Ask everything. Nothing is raised for what is wrong with the run: it is in `findings`."""
    check = Check(recipe, argv, launch, device_gb)
    module = importlib.import_module(f"recipes.{recipe}")
    for c in classes_of(module.main):
        for f in fields(c):
            check.defaults[f.name] = f.default if f.default is not MISSING else None
    try:
        with as_launched(launch):
            check.given = merged(classes_of(module.main), argv, module.check)
    except ValueError as error:
        check.say("fail", "keys", error)
        return check
    check.say("pass", "keys", f"{len(check.given)} keys, all known, of the right types, and they go together")
    surroundings = {"tracking": tracking, "versions": versions}
    for what, ask in (_wiring.QUESTIONS | _cost.QUESTIONS | surroundings).items():
        with check.question(what):
            ask(check)
    return check


def tracking(check: Check) -> None:
    if "wandb" not in (check["report_to"] or "none"):
        check.say("pass", "tracking", f"report_to: {check['report_to'] or 'none'}; no W&B run")
        return
    mode = os.environ.get("WANDB_MODE", "online")
    key = os.environ.get("WANDB_API_KEY") or "api.wandb.ai" in _text(Path.home() / ".netrc")
    said = mode if mode != "online" else "online, if it can be reached" if key else "offline: there is no API key"
    check.say("pass", "tracking", f"W&B {said}")


def versions(check: Check) -> None:
    tested = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", _text(common.REPO / "constraints.txt"), re.MULTILINE))
    different = []
    for package in COMPARED:
        with contextlib.suppress(PackageNotFoundError):
            if (found := version(package).partition("+")[0]) != tested.get(package):
                different.append(f"{package} {found} (tested: {tested.get(package)})")
    if different:
        check.say("warn", "versions", f"not those of constraints.txt: {', '.join(different)}")
    else:
        check.say("pass", "versions", "those of constraints.txt")


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def show(check: Check, as_json: bool) -> None:
    if as_json:
        rows = [dict(zip(("status", "what", "said"), finding, strict=True)) for finding in check.findings]
        report = {"recipe": check.recipe, "launch": asdict(check.launch), "findings": rows}
        if check.estimate is not None:
            report["memory"] = {moment: dict(parts) for moment, parts in check.estimate.moments.items()}
        common.result(json.dumps(report, indent=2))
        return
    width = max(len(what) for _, what, _ in check.findings)
    columns = max(60, shutil.get_terminal_size((120, 0)).columns) - width - 8
    for status, what, said in check.findings:
        lines = textwrap.wrap(said, columns) or [""]
        print(f"{status}  {what:<{width}}  {lines[0]}")
        for line in lines[1:]:
            print(" " * (width + 8) + line)
    counts = {s: sum(status == s for status, _, _ in check.findings) for s in ("fail", "warn", "skip")}
    print(", ".join(f"{n} {s}" for s, n in counts.items() if n) or "all pass")


def dry_run(recipe: str, argv: list[str]) -> None:
    """What `--dry_run` does behind a recipe's command. One process of a launch looks; the others have nothing to do."""
    if os.environ.get("RANK", "0") != "0":
        sys.exit(0)
    finish(run(recipe, argv, Launch.of_environment()), as_json=False)


def finish(check: Check, as_json: bool) -> None:
    show(check, as_json)
    sys.exit(2 if any(status == "fail" for status, _, _ in check.findings) else 0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", choices=TRAINING, help="default: the folder that the config is in")
    parser.add_argument("--config", help="a run's YAML file; without one, --recipe and keys")
    parser.add_argument("--launch", help="an accelerate config; default: one process")
    parser.add_argument("--device_gb", type=float, help="memory of one device, in units of 10^9 bytes, as it is sold")
    parser.add_argument("--json", action="store_true")
    own, rest = parser.parse_known_args(argv)
    recipe = own.recipe or (own.config and Path(own.config).resolve().parent.name)
    if recipe not in TRAINING:
        parser.error(f"config={own.config!r} is in no recipe's folder: say --recipe, one of {', '.join(TRAINING)}")
    try:
        launch = Launch.of_file(own.launch) if own.launch else Launch()
    except ValueError as error:
        parser.error(str(error))
    config = ["--config", own.config] if own.config else []
    finish(run(recipe, [*config, *rest], launch, own.device_gb), own.json)


if __name__ == "__main__":
    main()
