"""A user's first hour, from the documents' own lines: what they tell one to type is extracted, and typed.

A document is followed from top to bottom in a copy of the repository with the embedded base: what it shows behind "In `<file>`:"
is written to that file, what is in a ```bash block is run. `python` and `accelerate` are forked there, which saves their imports.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO

STEP = re.compile(r"In\s`([\w./-]+)`:\n\n```\w+\n(.*?)```|```bash\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def copy(base, tmp_path_factory):
    """The repository as a user has it, after `make demo`, whose base is stood in for by a smaller one."""
    folder = tmp_path_factory.mktemp("user") / "r1-recipes"
    ignored = shutil.ignore_patterns("__pycache__", "*.old-*")
    for part in ("recipes", "rewards", "data", "accelerate_configs", "docs", "tests"):
        shutil.copytree(REPO / part, folder / part, ignore=ignored)
    for file in ("README.md", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPO / file, folder)
    shutil.copytree(base, folder / "outputs" / "sft-tiny-base", ignore=shutil.ignore_patterns("checkpoint-*"))
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    command = [sys.executable, folder / "tests" / "forked_commands.py", folder / ".venv" / "bin"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as commands:
        assert commands.stdout.readline() == b"ready\n"
        yield folder
        commands.stdin.close()


def followed(folder: Path, document: str, section: str | None = None) -> list[str]:
    """What each block printed, of a whole document or of one section."""
    text = (REPO / document).read_text()
    if section is not None:
        text = re.search(rf"^## {section}$(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)[1]
    path = f"{folder}/.venv/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "WANDB_MODE": "disabled"}
    environment.pop("PYTHONPATH", None)
    said = []
    for file, content, commands in STEP.findall(text):
        if file:
            assert not (folder / file).exists()
            (folder / file).write_text(content)
            continue
        done = subprocess.run(
            ["bash", "-ec", commands], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{document}:\n{commands}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        said.append(done.stdout)
    return said


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_own_rows_a_reward_a_model_and_what_people_do_next(copy):
    """README's section, then docs/first-hour.md, which goes on from it."""
    (said,) = followed(copy, "README.md", "Your own rows, reward and model")
    rewards = [float(value) for value in re.findall(r"accuracy ([\d.]+)", said)]
    assert summary(copy / "outputs" / "sums")["rows"] == {"rows": 100, "ungradable": 0, "too_long": 0}
    assert rewards and max(rewards) > 0
    swapped, four, launched, continued, sampled, compared = followed(copy, "docs/first-hour.md")
    assert "step     5/5" in swapped and "step     2/2" in four
    assert "2 processes, DeepSpeed ZeRO-2" in launched and "fail" not in launched
    resumed = summary(copy / "outputs" / "killed")
    assert "resuming outputs/killed from outputs/killed/checkpoint-" in continued and "step    30/30" in continued
    assert resumed["steps"] == 30
    row = json.loads(sampled.splitlines()[-1])
    assert {"prompt", "completion", "answer", "reward", "rewards"} <= row.keys()
    assert len((copy / "outputs" / "completions.jsonl").read_text().splitlines()) == 80
    accuracies = [
        float(line.split()[2]) for line in compared.splitlines() if re.match(r"(sft-tiny-base|sums) accuracy", line)
    ]
    assert len(accuracies) == 2 and all(0 <= accuracy <= 1 for accuracy in accuracies)


def test_every_kind_of_rows(copy):
    said = followed(copy, "docs/your-own-data.md")
    prompts, pairs, shown, module, check = (" ".join(text.split()) for text in said)
    assert "step 3/3" in prompts and "step 3/3" in shown and pairs.count("step 3/3") == 2
    assert re.search(r"reward math_answer \d+ golds earn 1", module) and "reward small_number" in module
    assert "read as data/differences.py" in module and "fail" not in module
    assert "prompts with answers (prompt: prompt, answer: answer), and with it level" in check


def test_looking_at_mixing_and_choosing_rows(copy):
    looked, mixed, band = (" ".join(text.split()) for text in followed(copy, "docs/data.md"))
    assert (
        "can be graded (100.00%)" in looked and "with test: 0 prompts are in both" in looked and "rejected " in looked
    )
    assert "two digits: 20.0%" in mixed and "step 2/2" in mixed
    assert re.search(r"groups of 8 with an advantage: 0\.\d+ of all prompts', 0\.\d+ of those kept", band)
    assert re.search(r"(pass|warn) groups \d+% of groups of 8 would have an advantage", band) and "fail" not in band


def test_rewards_of_ones_own(copy):
    words, json_answer = followed(copy, "docs/writing-rewards.md")
    assert "2 golds earn 1, junk and silence 0" in words and "fail" not in words
    assert "2 golds earn 1, junk and silence 0" in json_answer and "fail" not in json_answer
    tested = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--noconftest",
        "tests/test_exact_words.py",
    ]
    done = subprocess.run(tested, cwd=copy, capture_output=True, text=True)
    assert "9 passed" in done.stdout, done.stdout
