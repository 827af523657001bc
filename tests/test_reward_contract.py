"""A reward of one's own that breaks its contract is named in a line, wherever rewards are asked, and one that keeps it is not."""

import json
import re
import sys

import pytest
from conftest import run_grpo, run_ppo
from test_check import found, look
from test_recipes import evaluated, log_of
from test_sample import run_sample

import rewards

TINY = "recipes/configs/grpo/tiny.yaml"
# what the file of the reward `mine` holds -> what is said; refused before anything loads
UNUSABLE = {
    "def mine(completions, **_)\n    return []": r"mine\.py can't be imported: SyntaxError: expected ':' \(mine\.py, line 1\)",
    "import nowhere_to_be_found": r"ModuleNotFoundError: No module named 'nowhere_to_be_found' \(mine\.py, line 1\)",
    "def my_reward(completions, **_): return []": r"has no function 'mine': its functions are my_reward",
    "mine = 3": r"makes 'mine' something other than a plain function",
    "async def mine(completions, **_): return []": r"makes 'mine' something other than a plain function",
    "def mine(completions, answer): return []": r"mine\(completions, answer\) has to take \*\*_ for what else callers pass",
    "def mine(texts, *, answer, **_): return []": r"has to take completions",
    "def mine(completions, log_metric, **_): return []": r"not every caller passes log_metric: give it a default",
}
# the body of `mine`, which goes wrong once there is something to grade -> what is said
BROKEN = {
    "return {'one': 1}['two']": r"raised KeyError: 'two' \(mine\.py, line 4\)",
    "return [json.loads(text)['answer'] for text in completions]": r"raised JSONDecodeError: .* \(mine\.py, line 4\)",
    "return [1.0] * (len(completions) - 1)": r"gave \d+ values for \d+ completions",
    "return [0.0] * (len(completions) - 1) + [float('nan')]": r"gave nan for row \d+, '.*': a finite number is wanted",
    "return [float('inf') for _ in completions]": r"gave inf for row 0, '.+'",
    "return ['1.0' for _ in completions]": r"gave '1\.0' for row 0, '.+'",
    "pass": r"gave None, a NoneType, and not a list",
    "return (1.0 for _ in completions)": r"gave <generator .* a generator, and not a list",
    "return 0.5": r"gave 0\.5, a float, and not a list",
    "return [None for _ in completions]": r"gave None for all \d+ completions, the first of them row 0, '.+'",
}
BODY = "import json\ndef mine(completions, **_):\n    if not any(completions): return [0.0] * len(completions)\n    {body}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Makes the text a reward of this name, as if it lay in rewards/."""
    folder = tmp_path / "rewards"
    folder.mkdir()
    monkeypatch.setattr(rewards, "__path__", [*rewards.__path__, str(folder)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, name: str = "mine") -> None:
        (folder / f"{name}.py").write_text(text)

    yield write
    sys.modules.pop("rewards.mine", None)


def refused(capsys, call, *argv) -> str:
    """The one line on standard error of a program that ends with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call(*argv)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert ended.value.code == 2 and len(errors) == 1
    return errors[0]


@pytest.mark.parametrize("text, said", UNUSABLE.items())
def test_a_reward_that_cannot_be_called_is_refused_before_anything_loads(write, text, said, capsys):
    write(text)
    argv = ["--config", TINY, "--rewards", "{mine: 1}", "--model_name_or_path", "nowhere"]
    assert re.search(f"reward 'mine'.*{said}", refused(capsys, run_grpo, *argv))
    assert re.search(said, found(look(*argv), "fail")["keys"])


@pytest.mark.parametrize("body, said", BROKEN.items())
def test_what_a_reward_may_not_give_is_one_line_of_evaluate_and_a_fail_of_check(base, write, body, said, capsys):
    write(BODY.format(body=body))
    argv = ["--config", TINY, "--model_name_or_path", base, "--rewards", "{mine: 1}", "--held_out", "0"]
    few = ["--problems", "2", "--samples", "2", "--max_completion_length", "8"]
    line = refused(capsys, evaluated, capsys, *argv, *few)
    assert re.search(f"error: reward 'mine' .*{said}", line), line
    failed = found(look(*argv), "fail")
    assert list(failed) == ["reward mine"] and re.search(said, failed["reward mine"])


@pytest.mark.parametrize("body", [*BROKEN][2:4] + [*BROKEN][-1:])
def test_a_reward_that_breaks_its_contract_ends_training_and_sampling_with_one_line(
    base, write, body, capsys, tmp_path, grpo_arguments
):
    write(BODY.format(body=body))
    line = refused(capsys, run_grpo, *grpo_arguments, "--rewards", "{mine: 1}", "--max_steps", "1")
    assert re.search(f"error: reward 'mine' {BROKEN[body]}", line)
    argv = [
        "--rewards",
        "{mine: 1}",
        "--model_name_or_path",
        base,
        "--dataset_options",
        "{digits: 1}",
        "--held_out",
        "0",
    ]
    sizes = [
        "--per_device_train_batch_size",
        "16",
        "--max_completion_length",
        "8",
    ]
    ppo = ["--config", "recipes/configs/ppo/tiny.yaml", *argv, *sizes, "--output_dir", str(tmp_path / "ppo")]
    assert re.search(f"error: reward 'mine' {BROKEN[body]}", refused(capsys, run_ppo, *ppo))
    few = ["--problems", "2", "--samples", "2", "--max_completion_length", "8", "--output", str(tmp_path / "a.jsonl")]
    line = refused(capsys, run_sample, "--config", TINY, *argv[:-2], *few)
    assert re.search(f"error: reward 'mine' {BROKEN[body]}", line)


def test_a_reward_that_raises_on_every_row_is_a_fail_of_its_own(base, write):
    write("def mine(completions, *, answer, **_):\n    return [float(a['gold']) for a in answer]")
    failed = found(look("--config", TINY, "--model_name_or_path", base, "--rewards", "{mine: 1}"), "fail")
    assert failed == {"reward mine": failed["reward mine"]} and "raised TypeError" in failed["reward mine"]


SOME = """
def mine(completions, prompts, answer, *, completion_ids=None, **_):
    assert len(prompts) == len(completions) == len(answer)
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [0.0 if not text else None if "<answer>" not in text else int(a in text) for text, a in zip(texts, answer)]
"""


def test_none_for_some_completions_is_counted_and_no_part_of_a_mean(base, write, capsys, tmp_path, grpo_arguments):
    """A reward written for TRL: prompts asked for, columns that aren't keyword-only, whole numbers, None where it has no say."""
    write(SOME)
    argv = [
        "--config",
        TINY,
        "--model_name_or_path",
        base,
        "--rewards",
        "{mine: 1}",
        "--dataset_options",
        "{digits: 1}",
    ]
    result = evaluated(capsys, *argv, "--problems", "60", "--samples", "4", "--max_completion_length", "24")
    nones, sampled = result["ungraded"]["mine"], 4 * result["problems"]
    assert 10 < nones < sampled - 10 and result["accuracy"] == pytest.approx(
        result["rewards"]["mine"] * (sampled - nones) / sampled
    )
    run_sample(
        *argv, "--samples", "2", "--max_completion_length", "24", "--keep", "all", "--output", str(tmp_path / "a.jsonl")
    )
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert {row["reward"] for row in rows if row["rewards"]["mine"] is None} == {0.0}
    run_grpo(*grpo_arguments, "--rewards", "{mine: 1}", "--max_steps", "1", "--save_steps", "1")
    assert 0 < log_of(tmp_path / "run")[0]["rewards/mine/mean"] < 1
    sizes = [
        "--per_device_train_batch_size",
        "16",
        "--max_completion_length",
        "24",
    ]
    argv = [*argv[2:], "--held_out", "0", "--max_steps", "4", *sizes, "--output_dir", str(tmp_path / "ppo")]
    run_ppo("--config", "recipes/configs/ppo/tiny.yaml", *argv)
    kept = [json.loads(line) for line in (tmp_path / "ppo" / "completions.jsonl").read_text().splitlines()]
    assert {row["rewards"]["mine"] for row in kept} <= {None, 0.0, 1.0}


WANTS_JSON = """
import json

def mine(completions, *, answer, **_):
    return [score(c if isinstance(c, str) else c[-1]["content"], gold) for c, gold in zip(completions, answer)]

def score(text, gold):
    try:
        said = json.loads(text)
    except ValueError:
        return 0.0
    return float(isinstance(said, dict) and said.get("answer") == gold)
"""


def test_a_reward_says_what_a_perfect_completion_looks_like(base, write):
    argv = ["--config", TINY, "--model_name_or_path", base, "--rewards", "{mine: 1, math_answer: 0}"]
    write(WANTS_JSON)
    assert "32 of 32 golds dressed as a perfect completion don't earn 1" in found(look(*argv), "fail")["reward mine"]
    sys.modules.pop("rewards.mine")
    write(WANTS_JSON + '\ndef perfect(row):\n    return json.dumps({"answer": row["answer"]})\n')
    report = look(*argv)
    assert not found(report, "fail") and "32 golds earn 1" in found(report, "pass")["reward mine"]
    for body, said in (("row['gold']", r"raised in perfect\(\): KeyError: 'gold'"), ("3", "gave 3, a int")):
        sys.modules.pop("rewards.mine")
        write(WANTS_JSON + f"\ndef perfect(row):\n    return {body}\n")
        assert re.search(said, found(look(*argv), "fail")["reward mine"])
