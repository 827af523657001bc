"""The check before a run: whether it fits, adds up and is wired right, from its config, its launch file and a few rows.

No weights are loaded. Each line of the table is one question:
  pass  it is right
  warn  it may be meant, but read it
  fail  the run would end with an error, or learn nothing, or run out of memory; what to change is said
  skip  it could not be looked at here, such as a model on the hub without a network
Ends with exit code 2 where anything fails.

Run: python -m recipes.check --config recipes/configs/grpo/tiny.yaml [--launch accelerate_configs/zero2.yaml]
         [--recipe grpo] [--num_processes 4] [--device_gb 24] [--json] [--learned] [--key value ...]
     or any recipe's own command with --dry_run behind it; through accelerate it is checked as it was launched.
"""

import argparse
import re
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import yaml

from recipes.preflight import learned
from recipes.preflight.questions import examine, finish
from recipes.shared.cli import classes_of
from recipes.shared.launch import Launch
from recipes.shared.run_config import TRAINING


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", choices=TRAINING, help="default: the one that the config's folder or keys say")
    parser.add_argument("--config", help="a run's YAML file; without one, --recipe and keys")
    parser.add_argument("--launch", help="an accelerate config; default: one process")
    parser.add_argument("--num_processes", type=int, help="as accelerate launch takes it: wins over the launch file's")
    parser.add_argument("--device_gb", type=float, help="memory of one device, in units of 10^9 bytes, as it is sold")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--learned", action="store_true", help="show a row's tokens: what is given, and what is learned or sampled"
    )
    args, keys = parser.parse_known_args(argv)
    try:
        recipe = args.recipe or recipe_of(args.config)
        launch = Launch.of_file(args.launch) if args.launch else Launch()
    except ValueError as error:
        parser.error(str(error))
    if args.num_processes is not None:
        sharding = "ddp" if launch.sharding == "none" and args.num_processes > 1 else launch.sharding
        launch = replace(launch, processes=args.num_processes, sharding=sharding)
    config = ["--config", args.config] if args.config else []
    found = examine(recipe, [*config, *keys], launch, args.device_gb)
    if args.learned and not args.json:
        learned.show(found)
        print()
    finish(found, args.json)


def recipe_of(path: str | None) -> str:
    """The recipe that a config is for. Raises ValueError.

    It is its folder's name, or what its `# Launch:` line runs, or else the only one that has all of its keys.
    """
    if path is None:
        raise ValueError(f"no --config: say --recipe, one of {', '.join(TRAINING)}")
    if (folder := Path(path).resolve().parent.name) in TRAINING:
        return folder
    try:
        text = Path(path).read_text()
        keys = set(yaml.safe_load(text) or {})
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"config={path!r} can't be read: {error}") from error
    fitting = sorted(set(re.findall(r"^#.*-m recipes\.(\w+)", text, re.MULTILINE)) & set(TRAINING))
    if not fitting:
        known = {
            r: {f.name for c in classes_of(import_module(f"recipes.{r}").main) for f in fields(c)} for r in TRAINING
        }
        fitting = [recipe for recipe in TRAINING if keys <= known[recipe]]
        # ppo has all keys of grpo
        fitting = [r for r in fitting if not any(known[other] < known[r] for other in fitting)]
    if len(fitting) != 1:
        what = f"fits {' and '.join(fitting)}" if fitting else "fits no recipe"
        raise ValueError(f"config={path!r} {what} by its keys: say --recipe, one of {', '.join(TRAINING)}")
    return fitting[0]


if __name__ == "__main__":
    main()
