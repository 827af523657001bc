"""All questions of the preflight, asked one after the other, and their table on the terminal."""

import contextlib
import json
import os
import re
import shutil
import sys
import textwrap
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recipes.preflight import cost, wiring
from recipes.preflight.findings import Findings
from recipes.shared.cli import recipe_config
from recipes.shared.launch import Launch
from recipes.shared.run_config import ConfigError, RunConfig
from recipes.shared.run_folder import REPO
from recipes.shared.terminal import result

COMPARED = ("torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "datasets", "bitsandbytes")


def examine(recipe: str, argv: list[str], launch: Launch, device_gb: float | None = None) -> Findings:
    """Ask everything. Nothing is raised for what is wrong with the run: it is in the findings."""
    try:
        config = recipe_config(recipe, argv, launch)
    except ValueError as error:
        found = Findings(RunConfig(recipe, launch=launch), device_gb)
        for problem in error.problems if isinstance(error, ConfigError) else [error]:
            found.say("fail", "keys", problem)
        return found
    found = Findings(config, device_gb)
    found.say("pass", "keys", f"{len(config.given)} keys, all known, of the right types, and they go together")
    for what, ask in (wiring.QUESTIONS | cost.QUESTIONS | {"tracking": tracking, "versions": versions}).items():
        with found.question(what):
            ask(config, found)
    return found


def tracking(config: RunConfig, found: Findings) -> None:
    if "wandb" not in (config["report_to"] or "none"):
        found.say("pass", "tracking", f"report_to: {config['report_to'] or 'none'}; no W&B run")
        return
    mode = os.environ.get("WANDB_MODE", "online")
    key = os.environ.get("WANDB_API_KEY") or "api.wandb.ai" in _text(Path.home() / ".netrc")
    text = mode if mode != "online" else "online, if it can be reached" if key else "offline: there is no API key"
    found.say("pass", "tracking", f"W&B {text}")


def versions(config: RunConfig, found: Findings) -> None:
    tested = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", _text(REPO / "constraints.txt"), re.MULTILINE))
    different = []
    for package in COMPARED:
        with contextlib.suppress(PackageNotFoundError):
            if (installed := version(package).partition("+")[0]) != tested.get(package):
                different.append(f"{package} {installed} (tested: {tested.get(package)})")
    if different:
        found.say("warn", "versions", f"not those of constraints.txt: {', '.join(different)}")
    else:
        found.say("pass", "versions", "those of constraints.txt")


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def show(found: Findings, as_json: bool) -> None:
    if as_json:
        rows = [dict(zip(("status", "what", "said"), finding, strict=True)) for finding in found.lines]
        report = {"recipe": found.config.recipe, "launch": asdict(found.config.launch), "findings": rows}
        if found.estimate is not None:
            report["memory"] = {moment: dict(parts) for moment, parts in found.estimate.moments.items()}
        result(json.dumps(report, indent=2))
        return
    width = max(len(what) for _, what, _ in found.lines)
    columns = max(60, shutil.get_terminal_size((120, 0)).columns) - width - 8
    for status, what, text in found.lines:
        lines = textwrap.wrap(text, columns) or [""]
        print(f"{status}  {what:<{width}}  {lines[0]}")
        for line in lines[1:]:
            print(" " * (width + 8) + line)
    counts = {s: sum(status == s for status, _, _ in found.lines) for s in ("fail", "warn", "skip")}
    print(", ".join(f"{n} {s}" for s, n in counts.items() if n) or "all pass")


def finish(found: Findings, as_json: bool = False) -> None:
    """Show the findings, and exit with 2 where anything fails, else with 0."""
    show(found, as_json)
    sys.exit(2 if any(status == "fail" for status, _, _ in found.lines) else 0)
