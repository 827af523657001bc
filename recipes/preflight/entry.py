"""The entry of every command: parse, look first with --dry_run, run, leave."""

import os
import sys
from collections.abc import Callable

from recipes.shared.cli import Problems, classes_of, parse
from recipes.shared.launch import Launch
from recipes.shared.run_config import TRAINING
from recipes.shared.terminal import leave


def start(
    recipe: str, main: Callable, problems: Problems | None = None, doc: str = "", argv: list[str] | None = None
) -> None:
    """Run `main` with what the command line says. Exits with code 2 where it is wrong, 130 where Ctrl-C stops it.

    recipe: the command's name. With --dry_run, a training recipe is only looked at, as recipes.check does.
    """
    argv = sys.argv[1:] if argv is None else argv
    if recipe in TRAINING and "--dry_run" in argv:
        from recipes.preflight import questions  # takes a second to import, which a run doesn't need

        if os.environ.get("RANK", "0") != "0":
            sys.exit(0)  # one process of a launch looks; the others have nothing to do
        argv = [word for word in argv if word != "--dry_run"]
        questions.finish(questions.examine(recipe, argv, Launch.of_environment()))
    arguments = parse(classes_of(main), argv, doc=doc, problems=problems, recipe=recipe)
    try:
        main(*arguments)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr, flush=True)
        sys.exit(130)
    leave()
