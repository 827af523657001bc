"""The command line: a YAML file, then `--key value` pairs over it, both checked before anything loads."""

import dataclasses
import difflib
import importlib
import inspect
import keyword
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError  # checks one value against one type hint; here through wandb anyway

from recipes.shared.launch import Launch
from recipes.shared.run_config import ConfigError, RunConfig, defaults_of
from recipes.shared.terminal import refusing

Problems = Callable[[RunConfig], Iterator[str]]


def parse(
    classes: tuple[type, ...],
    argv: list[str] | None = None,
    *,
    doc: str = "",
    problems: Problems | None = None,
    recipe: str = "",
    launch: Launch | None = None,
) -> tuple:
    """One instance of each dataclass and the RunConfig, from `--config FILE` and `--key value` pairs, which win over the file.

    doc: what --help prints. problems: yields what the recipe refuses of a RunConfig whose keys and types are right.
    launch: how the run is started; None: as this process was. Exits with code 2 and one line for each unknown key (naming
    the nearest), value of the wrong type or outside its choices, missing file or key, and whatever a dataclass itself refuses.
    """
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        print(doc.strip(), *(_describe(c) for c in classes), sep="\n\n")
        sys.exit(0)
    with refusing():
        config, made = read(classes, argv, problems, recipe, launch), []
        for c in classes:
            names = {f.name for f in dataclasses.fields(c)}
            try:
                made.append(c(**{k: v for k, v in config.given.items() if k in names}))
            except (TypeError, ImportError) as error:  # refused by the dataclass: say it as a misconfiguration
                raise ValueError(f"{c.__name__}: {error}") from error
            except ValueError as error:
                if "use_cpu" not in str(error):
                    raise
                raise ValueError(
                    "this machine has no GPU: add use_cpu: true and bf16: false to run on the CPU"
                ) from error
    return *made, config


def read(
    classes: tuple[type, ...],
    argv: list[str],
    problems: Problems | None = None,
    recipe: str = "",
    launch: Launch | None = None,
) -> RunConfig:
    """The keys of the file and of the command line, as `parse` reads and checks them, before any dataclass is made.

    Raises ConfigError with all that `parse` refuses by itself.
    """
    known = {f.name: f for c in classes for f in dataclasses.fields(c) if f.init}
    hints = {name: hint for c in classes for name, hint in typing.get_type_hints(c).items()}
    file, overrides = _read_argv(argv)
    given, wrong = {}, []
    of_file = {} if file is None else _read_yaml(file)
    for where, text, pairs in ((f"{file}: ", False, of_file), ("command line: --", True, overrides)):
        for key, value in pairs.items():
            try:
                given[key] = _valid(key, value, known, hints, where, text)
            except ValueError as error:
                wrong.append((key, str(error)))
    _default_names(classes, given, file)
    for name, f in known.items():
        if _is_required(f) and name not in given and name not in dict(wrong):
            way_out = f"add '{name}: ...' to the YAML file, or --{name} to the command line"
            wrong.append((name, f"{name} is not set: {way_out}"))
    launch = (Launch.of_environment() if launch is None else launch).with_keys(given)
    config = RunConfig(recipe, given, defaults_of(classes), launch)
    found = [problem for _, problem in wrong]
    if problems is not None and all(name in given for name, f in known.items() if _is_required(f)):
        of_defaults = tuple(f"{key}=" for key, _ in wrong)  # about the default in the place of a wrong value
        found += [problem for problem in dict.fromkeys(problems(config)) if not problem.startswith(of_defaults)]
    if found:
        raise ConfigError(found)
    return config


def recipe_config(recipe: str, argv: list[str], launch: Launch) -> RunConfig:
    """What a recipe, called by its name, would read of this command line. Raises ConfigError.

    The recipes stand above this room: this is the only place that looks one up.
    """
    module = importlib.import_module(f"recipes.{recipe}")
    return read(classes_of(module.main), argv, getattr(module, "problems", None), recipe, launch)


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is f.default_factory is dataclasses.MISSING


def classes_of(main: Callable) -> tuple[type, ...]:
    """The dataclasses that a recipe's main() takes, in their order: their fields are its keys."""
    hints = typing.get_type_hints(main)
    return tuple(hint for hint in hints.values() if dataclasses.is_dataclass(hint) and hint is not RunConfig)


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
    elif text and list in kinds and value.startswith("["):
        attempts = [_yaml_or_text(value)]
    elif text and value == "null" and type(None) in kinds:
        attempts = [None]
    if list in kinds:
        attempts.append([value])
    if not text and isinstance(value, bool) and bool not in kinds and str in kinds and key == "resume_from_checkpoint":
        attempts = [str(value).lower()]
    for attempt in attempts:
        if isinstance(attempt, bool) and bool not in kinds and typing.Any not in kinds:
            continue  # true is neither a number nor a word
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
    if not _is_ours(c):
        return f"Every field of {c.__module__.split('.')[0]}'s {c.__name__} is a key too."
    hints = typing.get_type_hints(c)
    ours = {name for base in c.__mro__ if _is_ours(base) for name in inspect.get_annotations(base)}
    lines = []
    for f in [f for f in dataclasses.fields(c) if f.name in ours]:
        default = "required" if _is_required(f) else f"default {f.default!r}"
        if f.default_factory is not dataclasses.MISSING:
            default = f"default {f.default_factory()!r}"
        lines.append(f"  --{f.name.rstrip('_')} ({_name(hints[f.name])}, {default}): {f.metadata.get('help', '')}")
    library = next((base for base in c.__mro__ if dataclasses.is_dataclass(base) and not _is_ours(base)), None)
    return "\n".join(lines + ([_describe(library)] if library else []))


def _is_ours(c: type) -> bool:
    return c.__module__.startswith(("recipes", "__main__"))
