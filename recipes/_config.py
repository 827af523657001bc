"""Strict configuration: a YAML file, then the command line over it, checked before anything loads."""

import dataclasses
import difflib
import keyword
import os
import sys
import time
import types
import typing
from contextlib import contextmanager
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError  # checks one value against one type hint; here through wandb anyway

TRAINING = ("sft", "reward_model", "dpo", "ppo", "grpo")
REFUSES_ALONE_S = 10.0


@contextmanager
def refusing(kind: type[ValueError] = ValueError):
    """A ValueError inside, of this kind, ends the program with one line on standard error and exit code 2."""
    try:
        yield
    except kind as error:
        # Every process of a launch refuses, and the launcher ends all of them once one has gone: the first one says why, and
        # the others, which would silence it by going before, wait; whoever is still there refuses alone, and says so itself.
        if os.environ.get("RANK", "0") != "0":
            time.sleep(REFUSES_ALONE_S)
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(2)


def parse(classes: tuple[type, ...], argv: list[str] | None = None, *, doc: str, check=None) -> tuple:
    """One instance of each dataclass, from `--config FILE` and `--key value` pairs, which win over the file.

    With --dry_run behind a training recipe's command, recipes.check looks at the run, and the program ends there.

    doc: what --help prints. check: a function of the merged keys that raises ValueError for those that don't go together.
    Exits with code 2 and one line for an unknown key (naming the nearest), a value of the wrong type or outside its
    choices, a missing file or key, and whatever a dataclass itself refuses.
    """
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        print(doc.strip(), *(_describe(c) for c in classes), sep="\n\n")
        sys.exit(0)
    if "--dry_run" in argv and check is not None and (recipe := Path(check.__code__.co_filename).stem) in TRAINING:
        from recipes.check import dry_run  # it imports the recipes, and they this

        dry_run(recipe, [word for word in argv if word != "--dry_run"])
    with refusing():
        return _parse(classes, argv, check)


def nearest(value: str, known) -> str:
    """What may have been meant, for an error message."""
    near = difflib.get_close_matches(value, list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"


def check_choices(given: dict, choices: dict[str, tuple[str, ...]]) -> None:
    """Refuse what isn't among a key's choices, alone or in a list, naming the nearest that is. Raises ValueError."""
    for key, known in choices.items():
        values = given.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            if value not in known:
                near = difflib.get_close_matches(str(value), known, n=1) or known[:1]
                raise ValueError(f"{key}={value!r}: did you mean {near[0]!r}? there are {', '.join(known)}")


def classes_of(main) -> tuple[type, ...]:
    """The dataclasses that a recipe's main() takes, in their order: their fields are its keys."""
    hints = typing.get_type_hints(main)
    return tuple(hint for hint in hints.values() if dataclasses.is_dataclass(hint))


def merged(classes: tuple[type, ...], argv: list[str], check=None) -> dict:
    """The keys of the file and of the command line, as `parse` reads and checks them, before any dataclass is made.

    Raises ValueError for whatever `parse` refuses by itself.
    """
    fields = {f.name: f for c in classes for f in dataclasses.fields(c) if f.init}
    hints = {name: hint for c in classes for name, hint in typing.get_type_hints(c).items()}
    given = {}
    config, overrides = _read_argv(argv)
    if config is not None:
        for key, value in _read_yaml(config).items():
            given[key] = _valid(key, value, fields, hints, f"{config}: ")
    for key, text in overrides.items():
        given[key] = _valid(key, text, fields, hints, "command line: --", text=True)
    _default_names(classes, given, config)
    for name, field in fields.items():
        if name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{name} is not set: add '{name}: ...' to the YAML file, or --{name} to the command line")
    if check is not None:
        check(given)
    return given


def _parse(classes, argv, check):
    given, made = merged(classes, argv, check), []
    for c in classes:
        own = {f.name for f in dataclasses.fields(c)}
        try:
            made.append(c(**{k: v for k, v in given.items() if k in own}))
        except (TypeError, ImportError) as error:  # refused by the dataclass: say it as a misconfiguration
            raise ValueError(f"{c.__name__}: {error}") from error
    return *made, given


def _read_argv(argv: list[str]) -> tuple[str | None, dict[str, str]]:
    pairs, i = {}, 0
    while i < len(argv):
        if not argv[i].startswith("--"):
            raise ValueError(f"command line: {argv[i]!r} follows no --key")
        key, equals, value = argv[i][2:].partition("=")
        i += 1
        if not equals:
            value = "true"  # a bare --flag
            if i < len(argv) and not argv[i].startswith("--"):
                value = argv[i]
                i += 1
        key = key.replace("-", "_")
        pairs[f"{key}_" if keyword.iskeyword(key) else key] = value  # --from is the field from_
    return pairs.pop("config", None), pairs


def _read_yaml(path: str) -> dict:
    try:
        content = yaml.load(Path(path).read_text(), _NoDuplicates)
    except OSError as error:
        known = sorted(map(str, Path("recipes/configs").glob("*/*.yaml")))
        near = difflib.get_close_matches(path, known, n=1)
        raise ValueError(f"--config {path}: {error.strerror}" + (f"; nearest is {near[0]}" if near else "")) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold 'key: value' lines")
    return content


class _NoDuplicates(yaml.SafeLoader):
    """Of a key that is given twice, YAML silently keeps the last value."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _valid(key, value, fields, hints, where, text=False):
    """The value as the field's type, read from text where the command line gave it. Raises ValueError."""
    if key not in fields:
        near = difflib.get_close_matches(key, fields, n=1)
        raise ValueError(f"{where}{key} is an unknown key" + (f": did you mean {near[0]!r}?" if near else ""))
    hint, kinds = hints[key], _kinds(hints[key])
    attempts = [value]
    if text and str not in kinds:  # '{a: 1}', '[1, 2]' and 'null' are YAML on the command line too
        attempts.append(_yaml_or_text(value))
    elif text and value == "null" and type(None) in kinds:
        attempts = [None]
    if list in kinds:
        attempts.append([value])
    if not text and isinstance(value, bool) and bool not in kinds and str in kinds and key == "resume_from_checkpoint":
        attempts = [str(value).lower()]
    for attempt in attempts:
        if isinstance(attempt, bool) and bool not in kinds and typing.Any not in kinds:
            continue  # true is no number and no word
        try:
            result = TypeAdapter(hint).validate_python(attempt)
            break
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
    else:
        reason = f"a bool, but {_name(hint)} is wanted" if isinstance(value, bool) else reason
        raise ValueError(f"{where}{key}={value!r}: {reason} (wanted: {_name(hint)})")
    choices = fields[key].metadata.get("choices")
    if choices and result is not None and result not in choices:
        near = difflib.get_close_matches(str(result), list(choices), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{where}{key}={result!r}: {hint}there are {', '.join(choices)}")
    return result


def _yaml_or_text(text: str):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _kinds(hint) -> set:
    """The plain types that a hint admits: {dict, str, NoneType} for dict[str, int] | str | None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*(_kinds(h) for h in typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return {type(v) for v in typing.get_args(hint)}
    return {typing.get_origin(hint) or hint}


def _name(hint) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _default_names(classes, given: dict, config: str | None) -> None:
    """output_dir and run_name follow the config file: recipes/configs/grpo/tiny.yaml is the run grpo-tiny."""
    if config is None or not any(f.name == "output_dir" for c in classes for f in dataclasses.fields(c)):
        return
    run = f"{Path(config).resolve().parent.name}-{Path(config).stem}"
    given.setdefault("output_dir", f"outputs/{run}")
    given.setdefault("run_name", Path(given["output_dir"]).name if "output_dir" in given else run)


def _describe(c: type) -> str:
    if not c.__module__.startswith(("recipes", "__main__")):
        return f"Every field of {c.__module__.split('.')[0]}'s {c.__name__} is a key too."
    hints = typing.get_type_hints(c)
    lines = []
    for f in dataclasses.fields(c):
        default = "required" if f.default is f.default_factory is dataclasses.MISSING else f"default {f.default!r}"
        if f.default_factory is not dataclasses.MISSING:
            default = f"default {f.default_factory()!r}"
        lines.append(f"  --{f.name.rstrip('_')} ({_name(hints[f.name])}, {default}): {f.metadata.get('help', '')}")
    return "\n".join(lines)
