"""Mixtures of datasets, rows by pass rate, and decontamination: which rows a run gets, and in which shares."""

import json
import random
from collections import Counter

import pytest
from conftest import run, run_grpo, run_in_processes

import data
import rewards
from data import _overlap, _pass_rate
from recipes.preflight.questions import examine
from recipes.shared import dataset_rows, model_loading
from recipes.shared.launch import Launch

SUMS = {"name": "arithmetic", "weight": 3}
COUNTDOWN = {"name": "countdown", "weight": 1, "options": {"rows": 200, "numbers": 2}}


def jsonl(folder, rows: list[dict], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_shares_are_the_weights(tmp_path):
    """Over 10,000 draws of a shuffled epoch, within three standard errors; each row as often as any other of its set, or once more."""
    parts = [
        {
            "name": jsonl(tmp_path, [{"question": f"q{i}", "answer": str(i)} for i in range(n)], f"{n}.jsonl"),
            "weight": w,
        }
        for n, w in ((30_000, 0.2), (500, 0.5), (4000, 0.3))
    ]
    rows, how = data.read(parts, template="plain")
    assert len(rows) == 34_500 and "20.0%, 6,900 draws of 30,000 rows" in how and "50.0%, 17,250 draws of 500" in how
    drawn = Counter(rows[i]["dataset"] for i in random.Random(1).sample(range(len(rows)), 10_000))
    for part in parts:
        share = part["weight"]
        assert abs(drawn[part["name"]] / 10_000 - share) < 3 * (share * (1 - share) / 10_000) ** 0.5
        times = Counter(row["prompt"] for row in rows if row["dataset"] == part["name"])
        assert max(times.values()) - min(times.values()) <= 1
    again = data.load(parts, template="plain")
    assert again["prompt"][:] == rows["prompt"][:] != data.load(parts, template="plain", seed=1)["prompt"][:]


def test_without_weights_every_row_is_there_once():
    parts = [{"name": "arithmetic", "options": {"digits": n, "rows": 40}, "label": f"sums {n}"} for n in (1, 2)]
    rows = data.load(parts, template=None)
    alone = [data.load(p["name"], template=None, **p["options"]) for p in parts]
    assert Counter(rows["dataset"]) == {"sums 1": 40, "sums 2": 40}
    assert sorted(rows["answer"]) == sorted([*alone[0]["answer"], *alone[1]["answer"]])


def test_tests_of_two_forms_and_columns_of_one_set_go_together(tmp_path):
    parts = [
        {"name": jsonl(tmp_path, [{"prompt": "q", "tests": {"type": "stdin", "cases": []}, "level": 1}])},
        {"name": jsonl(tmp_path, [{"prompt": "r", "tests": "{}"}], "b.jsonl")},
    ]
    rows = {row["prompt"]: row for row in data.load(parts, template="plain")}
    assert json.loads(rows["q\n"]["tests"])["type"] == "stdin" and rows["r\n"]["tests"] == "{}"
    assert (rows["q\n"]["level"], rows["r\n"]["level"]) == (1, None)


@pytest.mark.parametrize(
    "parts, options, words",
    [
        ([], {}, "the list of a mixture is empty"),
        (["gsm8k"], {}, "must have a name"),
        ([{"name": "gsm9k"}], {}, "did you mean 'gsm8k'"),
        ([{"name": "gsm8k", "wieght": 1}], {}, "has no key 'wieght': there are name, weight"),
        ([{"name": "gsm8k", "weight": 0}], {}, "weight=0 of 'gsm8k' must be above 0"),
        ([{"name": "gsm8k", "weight": 1}, {"name": "math"}], {}, "all sets of a mixture have a weight, or none"),
        ([{"name": "gsm8k"}, {"name": "gsm8k"}], {}, "'gsm8k' is twice.*give one of them a label"),
        ([{"name": "gsm8k"}, {"name": "math", "label": "gsm8k"}], {}, "'gsm8k' is twice"),
        ([{"name": "gsm8k", "options": {"level": 1}}], {}, "'gsm8k' has no option 'level'"),
        ([{"name": "gsm8k"}], {"levels": [1]}, "a mixture takes seed, pass_rate, decontaminate, and no 'levels'"),
        ([{"name": "gsm8k", "split": "validation"}], {}, "split 'validation' of dataset 'gsm8k' is unknown"),
    ],
)
def test_a_mixture_that_can_not_be_is_refused_before_anything_loads(parts, options, words):
    with pytest.raises(ValueError, match=words):
        data.check(parts, "train", **options)


def test_a_column_of_two_types_is_refused(tmp_path):
    parts = [
        {"name": jsonl(tmp_path, [{"prompt": "q", "answer": "1", "level": 1}])},
        {"name": jsonl(tmp_path, [{"prompt": "q", "answer": "1", "level": "hard"}], "b.jsonl")},
    ]
    with pytest.raises(ValueError, match=r"column 'level' has different types in .*a?rows.jsonl, .*b.jsonl: rename it"):
        data.load(parts)


def test_each_row_is_graded_by_the_reward_that_it_is_for(tmp_path):
    tokenizer = model_loading.load_tokenizer("recipes/configs/sft/tiny-base")
    path = jsonl(tmp_path, [{"question": "q", "answer": None}])
    rows = data.load([SUMS | {"options": {"digits": 1}}, COUNTDOWN, {"name": path, "weight": 0.1}], template="plain")
    funcs = [rewards.load(name) for name in ("math_answer", "countdown", "think_format")]
    usable, counts = dataset_rows.usable_rows(rows, funcs, tokenizer, None)
    assert counts["ungradable"] == sum(d == path for d in rows["dataset"]) > 0 and "have no answer" in counts.reasons
    columns = dataset_rows.reward_columns(usable)
    paid = {f.__name__: f(completions=[""] * len(usable), **columns) for f in funcs}
    for name, math_answer, countdown in zip(usable["dataset"], paid["math_answer"], paid["countdown"], strict=True):
        assert (math_answer, countdown) == ((0.0, None) if name == "arithmetic" else (None, 0.0))


def test_rewards_see_only_their_own_rows_and_say_what_each_dataset_earned():
    logged, extra = [], {}
    reward = rewards.load("math_answer")
    given = {"answer": ["1", None, "2", "3"], "dataset": ["a", "b", "a", "c"], "prompts": list("wxyz")}
    texts = ["<answer>1</answer>", "<answer>1</answer>", "<answer>7</answer>", "<answer>3</answer>"]
    values = reward(completions=texts, log_metric=lambda n, v: logged.append((n, v)), log_extra=extra.update, **given)
    assert values == [1.0, None, 0.0, 1.0]
    assert [entry for entry in logged if entry[0].startswith("rewards/")] == [
        ("rewards/math_answer/a", 1.0),
        ("rewards/math_answer/a", 0.0),
        ("rewards/math_answer/c", 1.0),
    ]
    assert reward(completions=texts[:2], answer=[None, None], prompts=list("ab")) == [None, None]


@pytest.mark.launches
def test_grpo_on_a_mixture_logs_each_dataset_and_resumes_as_the_same_run(base, tmp_path, grpo_arguments):
    """The rewards of each set stand apart; killed or not, the same prompts come in the same order."""
    mixture = json.dumps([SUMS | {"options": {"digits": 1}}, COUNTDOWN])
    argv = [
        *grpo_arguments,
        "--dataset",
        mixture,
        "--dataset_options",
        "{seed: 3}",
        "--held_out",
        "0",
        "--save_steps",
        "2",
    ]
    argv += [
        "--rewards",
        "{math_answer: 1.0, countdown: 1.0, think_format: 0.2}",
        "--logging_steps",
        "1",
        "--completions_to_log",
        "64",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_grpo(*argv, "--max_steps", "4", "--output_dir", str(whole))
    run_grpo(*argv, "--max_steps", "2", "--output_dir", str(parts))
    run_grpo(*argv, "--max_steps", "4", "--output_dir", str(parts), "--resume_from_checkpoint", "true")
    logs = [history(folder) for folder in (whole, parts)]
    keys = {key for row in logs[0] for key in row if key.startswith("rewards/")}
    assert {"rewards/math_answer/arithmetic", "rewards/countdown/countdown"} <= keys
    assert "rewards/math_answer/countdown" not in keys
    assert prompts(whole) == prompts(parts)
    argv[argv.index("--per_device_train_batch_size") + 1] = "32"
    run_in_processes("recipes.grpo", *argv, "--max_steps", "4", "--output_dir", str(tmp_path / "two"))
    assert prompts(tmp_path / "two") == prompts(whole)


def history(folder) -> list[dict]:
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


def prompts(folder) -> list[tuple[int, str]]:
    """The prompts that were sampled for, with their steps."""
    rollouts = [json.loads(line) for line in (folder / "completions.jsonl").read_text().splitlines()]
    return sorted({(rollout["step"], rollout["prompt"]) for rollout in rollouts})


def test_the_check_grades_each_reward_with_its_own_golds(untrained):
    mixture = json.dumps([SUMS | {"options": {"digits": 1}}, COUNTDOWN])
    argv = ["--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", untrained, "--held_out", "0"]
    argv += [
        "--dataset",
        mixture,
        "--rewards",
        "{math_answer: 1.0, countdown: 1.0}",
        "--per_device_train_batch_size",
        "32",
    ]
    lines = {what: (status, text) for status, what, text in examine("grpo", argv, Launch()).lines}
    golds = [int(lines[f"reward {name}"][1].split()[0]) for name in ("math_answer", "countdown")]
    assert not [what for what, (status, _) in lines.items() if status == "fail"]
    assert sum(golds) == 32 and min(golds) > 3
    assert "a mixture of arithmetic: 75.0%" in lines["rows"][1]


def test_evaluate_says_the_accuracy_of_each_dataset(base, capsys):
    mixture = json.dumps([SUMS | {"options": {"digits": 1}}, COUNTDOWN])
    argv = ["--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", base, "--dataset", mixture, "--json"]
    argv += [
        "--dataset_options",
        "{}",
        "--rewards",
        "{math_answer: 1.0, countdown: 1.0}",
        "--problems",
        "40",
        "--samples",
        "2",
    ]
    run("evaluate", *argv)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["accuracy_of"]) == {"arithmetic", "countdown"} and found["accuracy_of"]["countdown"] < 0.2
    assert set(found["rewards"]) == {"math_answer", "countdown", "think_format"}


RATES = [
    {"question": f"q{n}", "answer": "1", "pass_rate": rate} for n, rate in enumerate([0.0, 0.1, 0.5, 0.9, 1.0, None])
]


def test_rows_are_chosen_by_their_pass_rate(tmp_path):
    path = jsonl(tmp_path, RATES)
    rows, how = data.read(path, template="plain", pass_rate=[0.1, 0.9])
    assert rows["pass_rate"] == [0.1, 0.5, 0.9] and "3 of 6 with a pass rate of 0.1 to 0.9 (1 have none)" in how
    renamed = jsonl(tmp_path, [{"question": "q", "answer": "1", "rate": 0.5}], "b.jsonl")
    assert len(data.load(renamed, columns={"pass_rate": "rate"}, pass_rate=[0, 1])) == 1
    for band, words in (
        ([0.95, 0.99], "no row is left of 6"),
        ([0.9, 0.1], "must be two numbers"),
        ("0.5", "must be two numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            data.load(path, pass_rate=band)
    with pytest.raises(ValueError, match=r"'arithmetic' has no column 'pass_rate'.*recipes\.sample --keep band"):
        data.load("arithmetic", pass_rate=[0, 1])


def test_the_share_of_useful_groups_is_that_of_drawing_them():
    rates, rng = [0.0, 0.05, 0.5, 0.97, 1.0], random.Random(0)
    groups = [[rng.random() < p for _ in range(8)] for p in rates for _ in range(20_000)]
    drawn = sum(0 < sum(group) < 8 for group in groups) / len(groups)
    assert _pass_rate.useful_groups(rates, 8) == pytest.approx(drawn, abs=0.005)


QUESTION = "A farmer has 17 sheep and buys 4 more on Monday. On Tuesday he sells half of them. How many sheep are left?"
TRAINED_ON = {
    QUESTION: True,
    "Solve it.  a farmer HAS 17 sheep, and buys 4 more on monday; then he rests": True,
    "What is 2 + 3?": True,
    "There were seventeen sheep on a farm; four joined them, then every second one was sold. What remains?": False,
    "A farmer has 17 goats and buys 4 more on Monday.": False,
    "What is 2 + 33?": False,
    "": False,
}


def test_a_copy_is_found_and_a_paraphrase_is_not(tmp_path):
    questions = (*[QUESTION] * 32, "What is 2+3", "x")
    others = jsonl(tmp_path, [{"question": q, "answer": "1"} for q in questions], "test.jsonl")
    path = jsonl(tmp_path, [{"question": q, "answer": "1"} for q in TRAINED_ON])
    rows, how = data.read(path, template=None, decontaminate=[others])
    assert [_overlap.asked(p) for p in rows["prompt"]] == [q for q, found in TRAINED_ON.items() if not found]
    assert f"less 3 of 7 that overlap: 3 with {others}" in how
    with pytest.raises(ValueError, match="did you mean 'math500'"):
        data.check("arithmetic", "train", decontaminate=["math5000"])
    with pytest.raises(ValueError, match="must be a list of sets or files"):
        data.check("arithmetic", "train", decontaminate="math500")


def test_options_of_every_set_are_a_mixtures_too(tmp_path):
    """A set's own comes before the mixture's."""
    parts = [{"name": jsonl(tmp_path, RATES, f"{n}.jsonl"), "label": n} for n in ("a", "b")]
    parts[1]["options"] = {"pass_rate": [1, 1]}
    others = jsonl(tmp_path, [{"question": "q2", "answer": "1"}], "test.jsonl")
    rows = data.load(parts, template="plain", pass_rate=[0.1, 0.9], decontaminate=[others])
    assert sorted(zip(rows["dataset"], rows["prompt"], strict=True)) == [("a", "q1\n"), ("a", "q3\n"), ("b", "q4\n")]


def test_a_sets_own_wording_is_not_an_overlap(tmp_path):
    ask = "Complete this Python function. Give the whole program in one block, please. {}"
    others = jsonl(
        tmp_path, [{"question": ask.format(f"def f{i}(): pass"), "answer": "1"} for i in range(9)], "test.jsonl"
    )
    path = jsonl(tmp_path, [{"question": ask.format(f"def g{i}(): pass"), "answer": "1"} for i in range(9)])
    assert len(data.load(path, decontaminate=[others])) == 9
