"""A stage of recipes.r1: its command, what its result is made from, and whether that result is there."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from recipes.preflight.findings import Findings
from recipes.preflight.questions import examine
from recipes.shared.cli import recipe_config
from recipes.shared.launch import Launch
from recipes.shared.run_folder import SUMMARY

RECIPES = ("sft", "reward_model", "dpo", "ppo", "grpo", "sample", "merge", "evaluate")
# recipe -> (what it writes last, where what it measured is); the trainers write both into summary.json
RESULTS = {"sample": ("rows.jsonl", "rows.summary.json"), "evaluate": ("result.json", "result.json")}
INPUT_KEYS = (
    "model_name_or_path",
    "dataset",
    "held_out_dataset",
    "reward_model",
    "value_model",
    "reference",
    "deepspeed",
)  # files or folders
ONE_PROCESS = ("merge",)  # whatever the launch file says
STARTS_OVER = ("merge",)  # it can't resume


@dataclass(kw_only=True)
class Stage:
    name: str
    recipe: str
    folder: Path
    config: str | None = None
    takes: dict[str, str] = field(default_factory=dict)  # key of the recipe -> the stage whose result it is
    keys: dict = field(default_factory=dict)  # win over the config
    launch: str | None = None  # an accelerate config

    def __post_init__(self):
        self.launch = None if self.recipe in ONE_PROCESS else self.launch

    @property
    def result(self) -> Path:
        """What exists when the stage is finished, and not before."""
        return self.folder / RESULTS.get(self.recipe, (SUMMARY,))[0]

    @property
    def product(self) -> Path:
        """What other stages take: a file of rows, or a model's folder."""
        return self.result if self.recipe in RESULTS else self.folder

    @property
    def record(self) -> Path:
        """What the stage was made from, and the seconds that it took."""
        return self.folder.with_name(self.name + ".json")

    def arguments(self, stages: dict[str, "Stage"]) -> list[str]:
        given = self.keys | {key: str(stages[name].product) for key, name in self.takes.items()}
        given |= {"output" if self.recipe in RESULTS else "output_dir": str(self.product)}
        pairs = [word for key, value in given.items() for word in (f"--{key}", as_text(value))]
        return (["--config", self.config] if self.config else []) + pairs

    def command(self, stages: dict[str, "Stage"]) -> list[str]:
        """As it is typed; it resumes, where the recipe can."""
        start = ["accelerate", "launch", "--config_file", self.launch] if self.launch else ["python"]
        resume = [] if self.recipe in (*RESULTS, *STARTS_OVER) else ["--resume_from_checkpoint", "true"]
        return [*start, "-m", f"recipes.{self.recipe}", *self.arguments(stages), *resume]

    def launched(self) -> Launch:
        return Launch.of_file(self.launch) if self.launch else Launch()

    def stand_in(self, stages: dict[str, "Stage"], unmade: set[str]) -> str:
        """The model that this stage makes, or, while it isn't made, the one that it begins with: of the same shape and tokens."""
        if self.name not in unmade:
            return str(self.product)
        source = self.takes.get("model_name_or_path")
        begins_with = self.made_from(stages)["model_name_or_path"]
        return stages[source].stand_in(stages, unmade) if source else begins_with

    def examined(self, stages: dict[str, "Stage"], unmade: set[str]) -> Findings | None:
        """The preflight's findings, with stand-ins for models that aren't made yet; None where it trains on rows that aren't."""
        takes = {key: stages[name] for key, name in self.takes.items() if name in unmade}
        if any(stage.recipe in RESULTS for stage in takes.values()):
            return None
        kept = {key: name for key, name in self.takes.items() if key not in takes}
        models = {key: stage.stand_in(stages, unmade) for key, stage in takes.items()}
        argv = replace(self, takes=kept, keys=self.keys | models).arguments(stages)
        return examine(self.recipe, argv, self.launched())

    def made_from(self, stages: dict[str, "Stage"]) -> dict[str, str | dict]:
        """All that decides the result, but for the code. Raises ValueError, with the stage's name, for what its recipe refuses.

        Files and folders that the config names are in it by their digests, as far as they exist.
        """
        try:
            given = recipe_config(self.recipe, self.arguments(stages), self.launched()).given
        except ValueError as error:
            raise ValueError(f"stage {self.name!r}: {error}") from error
        config = {k: v for k, v in given.items() if k not in ("output", "output_dir", "run_name")}
        named = {k: config[k] for k in INPUT_KEYS if isinstance(config.get(k), str)} | {"launch": self.launch or ""}
        files = {k: Path(v).expanduser() for k, v in named.items() if v and Path(v).expanduser().exists()}
        made = {"recipe": self.recipe} | config | {f"{k} (contents)": digest(path) for k, path in files.items()}
        return json.loads(json.dumps(made))  # as it is read back

    def state(self, stages: dict[str, "Stage"]) -> str:
        """One of "done", "stopped" (it can resume), "new", or why its result can't be used any more."""
        if not self.folder.exists():
            return "new"
        if not self.record.exists():
            return f"{self.folder}/ is there, but nothing says what it was made from"
        before, now = json.loads(self.record.read_text())["made_from"], self.made_from(stages)
        for key in named_files(before) - named_files(now):
            if before.get(key) == now.get(key) and key in now:
                raise ValueError(f"stage {self.name!r} was made with {key}={now[key]!r}, which is gone: bring it back")
        if changed := sorted(key for key in {**before, **now} if before.get(key) != now.get(key)):
            return "; ".join(
                f"{key} changed"
                if key.endswith("(contents)")
                else f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
                for key in changed
            )
        if self.result.exists():
            return "done"
        return "it was stopped, and can only start over" if self.recipe in STARTS_OVER else "stopped"

    def figures(self) -> dict:
        """Accuracy and format rate, held out (of sampled rows: of all that were sampled), None where not measured; seconds."""
        kept = RESULTS.get(self.recipe, (None, SUMMARY))[1]
        summary = json.loads((self.folder / kept).read_text())
        measured = summary.get("after") or summary
        seconds = json.loads(self.record.read_text()).get("seconds")  # none where recipes.r1 was killed, and it was not
        return {key: measured.get(key) for key in ("accuracy", "format_rate")} | {"seconds": seconds}

    def set_aside(self) -> Path:
        """Give the folder another name: nothing is deleted."""
        n = next(n for n in range(1, 10_000) if not self.folder.with_name(f"{self.name}.old-{n}").exists())
        return self.folder.rename(self.folder.with_name(f"{self.name}.old-{n}"))


def named_files(made_from: dict) -> set[str]:
    """The keys whose values were there as files or folders."""
    return {key.removesuffix(" (contents)") for key in made_from if key.endswith(" (contents)")}


def as_text(value) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the names and contents of its files; a file over 1 MB counts by its size.

    A run's folder holds its summary.json, which no other run's is equal to.
    """
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    sizes = {file: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()}
    listed = [(file.name, size if size > 2**20 else digest(file)) for file, size in sizes.items()]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
