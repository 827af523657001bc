"""Partial samples: what recipes.sample has sampled so far, kept in a file so that a killed run resumes from it."""

import json
from pathlib import Path

from accelerate import PartialState

from recipes.shared import run_folder, terminal


class PartialSamples:
    """<output>.part: a line that says what is sampled, then a line a prompt, its completions with their rewards."""

    def __init__(self, output: Path, settings: dict, prompts: int, step: int):
        """prompts: how many there will be. step: how many are sampled, and written, together.

        Raises ValueError where the file is another run's.
        """
        self.step = step
        self.path, self.settings = output.with_suffix(".part"), json.loads(json.dumps(settings))
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1] if self.path.exists() else []
        PartialState().wait_for_everyone()  # nobody writes before everybody has looked
        self.groups = max(0, len(lines) - 1)
        if self.groups < prompts:
            self.groups -= (
                self.groups % step
            )  # only complete batches, or the following ones would be sampled differently
        if lines:
            before = json.loads(lines[0])["settings"]
            if changed := [k for k in {**before, **self.settings} if before.get(k) != self.settings.get(k)]:
                k = sorted(changed)[0]
                raise ValueError(
                    f"{self.path} is of another run ({k} was {before.get(k)!r}, is {self.settings.get(k)!r}): remove it, or "
                    "name another output"
                )
            if PartialState().is_main_process:  # a batch that was being written when the run was killed is dropped
                run_folder.write_atomically(self.path, "".join(line + "\n" for line in lines[: 1 + self.groups]))
            terminal.say(f"resuming from {self.path}: {self.groups} prompts are sampled")

    def open(self) -> None:
        if PartialState().is_main_process and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            run_folder.write_atomically(self.path, json.dumps({"settings": self.settings}) + "\n")

    def add(self, groups: list[list[dict]]) -> None:
        if PartialState().is_main_process:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(group, ensure_ascii=False) + "\n" for group in groups))

    def read(self) -> list[list[dict]]:
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]  # not splitlines(): JSON keeps other separators
        return [json.loads(line) for line in lines[1:]]
