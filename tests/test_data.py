"""Rows as the model and the rewards get them, and what must not be in both splits."""

import itertools
import json
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import REPO
from datasets import Dataset

import data
import rewards
from data import _templates, arithmetic, arithmetic_text, countdown, gsm8k, humaneval, math, mbpp
from recipes.preflight import perfect_answers
from recipes.shared import model_loading, tokens
from rewards.code_tests import code_tests

PERFECT = "<think>\nbecause\n</think>\n<answer>\n{}\n</answer>"
# the first rows of the public sets
GSM8K_ROW = {
    "question": "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much did she earn?",
    "answer": "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = $<<0.2*50=10>>10.\n#### 10",
}
COUNTDOWN_ROW = {"target": 98, "nums": [44, 19, 35]}
MATH_ROW = {
    "problem": "What is the smallest positive perfect cube that can be written as the sum of three consecutive integers?",
    "solution": "The sum of three consecutive integers takes the form $(k-1)+(k)+(k+1)=3k$ ... $3^3=\\boxed{27}$.",
    "answer": "27",
    "subject": "Algebra",
    "level": 3,
    "unique_id": "test/algebra/1843.json",
}
HUMANEVAL_ROW = {
    "task_id": "HumanEval/53",
    "prompt": '\n\ndef add(x: int, y: int):\n    """Add two numbers x and y\n    >>> add(2, 3)\n    5\n    """\n',
    "canonical_solution": "    return x + y\n",
    "test": "def check(candidate):\n    assert candidate(0, 1) == 1\n    assert candidate(2, 3) == 5\n",
    "entry_point": "add",
}
MBPP_ROW = {
    "task_id": 2,
    "text": "Write a function to find the similar elements from the given two tuple lists.",
    "code": "def similar_elements(test_tup1, test_tup2):\n  return tuple(set(test_tup1) & set(test_tup2))",
    "test_list": [
        "assert similar_elements((3, 4, 5, 6),(5, 7, 4, 10)) == (4, 5)",
        "assert similar_elements((1, 2, 3, 4),(5, 4, 3, 7)) == (3, 4)",
    ],
    "test_setup_code": "",
    "challenge_test_list": [],
}


def test_gsm8k_row():
    assert gsm8k.to_row(GSM8K_ROW) == {
        "prompt": [{"role": "user", "content": GSM8K_ROW["question"]}],
        "answer": "10",
    }
    assert gsm8k.to_row({"question": "q", "answer": "a #### 1,234"})["answer"] == "1234"


@pytest.mark.parametrize("answer", [None, "", "no marker", "####", "#### ", 27.0])
def test_gsm8k_row_without_gold(answer):
    assert gsm8k.to_row({"question": "q", "answer": answer})["answer"] is None


def test_math_row():
    question = [{"role": "user", "content": MATH_ROW["problem"]}]
    assert math.to_row(MATH_ROW) == {"prompt": question, "answer": "27"}
    assert math.to_row(MATH_ROW | {"answer": 27})["answer"] == "27"
    for broken in ({"answer": None}, {"answer": " "}, {"problem": None}, {"problem": ""}):
        assert math.to_row(MATH_ROW | broken)["answer"] is None


def test_math_gives_the_levels_that_are_asked_for(tmp_path):
    levels = ("1", "3", "4", "5", "Level 3", "Level ?", None)
    path = write(tmp_path, [MATH_ROW | {"level": level, "answer": str(level)} for level in levels])
    assert data.load("math", path=path, levels=[3, 5])["answer"] == ["3", "5", "Level 3"]
    assert len(data.load("math", path=path)) == 7
    for wrong in ([], [3, 6]):
        with pytest.raises(ValueError, match=r"must be some of \[1, 2, 3, 4, 5\]"):
            data.load("math", path=path, levels=wrong)


def test_countdown_row_keeps_what_the_reward_checks():
    row = countdown.to_row(COUNTDOWN_ROW)
    assert (row["target"], row["nums"]) == (98, [44, 19, 35])
    assert "44, 19, 35" in row["prompt"][0]["content"] and "98" in row["prompt"][0]["content"]


@pytest.mark.sandbox
def test_the_solutions_of_code_rows_pass_and_their_prompts_do_not():
    completions = [HUMANEVAL_ROW["prompt"] + HUMANEVAL_ROW["canonical_solution"], MBPP_ROW["code"], "x = 1"]
    rows = [humaneval.to_row(HUMANEVAL_ROW), mbpp.to_row(MBPP_ROW), humaneval.to_row(HUMANEVAL_ROW)]
    scores = code_tests([f"```python\n{c}\n```" for c in completions], tests=[r["tests"] for r in rows])
    assert scores == [1.0, 1.0, 0.0]
    for row in rows:
        assert code_tests([row["prompt"][0]["content"]], tests=[row["tests"]]) == [0.0]
    question = rows[1]["prompt"][0]["content"]
    assert MBPP_ROW["test_list"][0] in question and MBPP_ROW["test_list"][1] not in question
    assert code_tests([""], tests=[mbpp.to_row(MBPP_ROW | {"test_list": []})["tests"]]) == [None]


SETS = REPO / "tests/cases/sets"


@pytest.mark.parametrize("name", ["math", "countdown"])
def test_gold_earns_everything_and_another_rows_gold_nothing(name):
    rows, how = data.read(str(SETS / f"{name}.jsonl"), template=None)
    assert how.startswith(name)
    reward = rewards.load("math_answer" if name == "math" else name)
    columns = {c: rows[c][:] for c in rows.column_names if c != "prompt"}
    golds = [perfect_answers.completion(row) for row in rows]
    assert reward(completions=golds, prompts=golds, **columns) == [1.0] * 5
    assert reward(completions=golds[1:] + golds[:1], prompts=golds, **columns) == [0.0] * 5


@pytest.mark.sandbox
@pytest.mark.parametrize("name, unusable", [("mbpp", [5]), ("humaneval", [])])
def test_a_solution_passes_its_own_tests_and_no_other_rows(name, unusable):
    rows = data.load(name, "test", path=str(SETS / f"{name}.jsonl"), template=None)
    lacks = rows["unreadable"][:] if unusable else []
    assert [i for i, lack in enumerate(lacks) if lack == "no tests"] == unusable
    rows = rows.select(range(5))
    programs = [f"```python\n{solution}\n```" for solution in rows["solution"]]
    assert code_tests(programs, tests=rows["tests"][:]) == [1.0] * 5
    assert code_tests(programs[1:] + programs[:1], tests=rows["tests"][:]) == [0.0] * 5


@pytest.mark.parametrize(
    "name, raw, needed",
    [
        ("gsm8k", GSM8K_ROW, "answer"),
        ("math", MATH_ROW, "answer"),
        ("countdown", COUNTDOWN_ROW, "nums"),
        ("humaneval", HUMANEVAL_ROW, "tests"),
        ("mbpp", MBPP_ROW, "tests"),
    ],
)
def test_a_local_file_of_the_public_shape_is_recognised(tmp_path, name, raw, needed):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(raw) + "\n")
    row = data.load(str(path), "test", template="plain")[0]
    expected = data._module(name).to_row(raw)
    assert row[needed] == expected[needed] and row["prompt"] == expected["prompt"][0]["content"] + "\n"


def test_a_hub_name_is_its_module_and_a_file_takes_no_options(tmp_path):
    assert data._named("openai/gsm8k") is gsm8k and data._named("Jiayi-Pan/Countdown-Tasks-3to4") is countdown
    (tmp_path / "rows.jsonl").write_text(json.dumps(COUNTDOWN_ROW) + "\n")
    with pytest.raises(ValueError, match="takes no option 'numbers'"):
        data.load(str(tmp_path / "rows.jsonl"), numbers=4)
    with pytest.raises(ValueError, match="did you mean 'numbers'"):
        data.load("countdown", number=4)


def test_parquet_works_as_jsonl_does(tmp_path):
    Dataset.from_list([GSM8K_ROW]).to_parquet(tmp_path / "rows.parquet")
    assert data.load(str(tmp_path / "rows.parquet"))["answer"] == ["10"]


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_arithmetic_splits_share_no_sum_either_way_round(digits):
    train, test = (set(arithmetic.pairs(s, digits, None, random.Random(0))) for s in ("train", "test"))
    assert train and test
    assert not {tuple(sorted(p)) for p in train} & {tuple(sorted(p)) for p in test}
    assert digits > 2 or len(train) + len(test) == (9 * 10 ** (digits - 1)) ** 2


def test_arithmetic_is_right_distinct_and_the_same_for_a_seed():
    rows = data.load("arithmetic", "test", rows=600)
    assert len({row["prompt"][-1]["content"] for row in rows}) == 600
    for row in rows:
        a, b = row["prompt"][-1]["content"].removeprefix("What is ").removesuffix("?").split(" + ")
        assert row["answer"] == str(int(a) + int(b))
    assert rows.to_list() == data.load("arithmetic", "test", rows=600).to_list()
    assert rows.to_list() != data.load("arithmetic", "test", rows=600, seed=1).to_list()


def test_the_base_never_saw_a_held_out_sum():
    held_out = {row["prompt"] for row in data.load("arithmetic", "test", template="plain")}
    seen = {row["prompt"] for row in data.load("arithmetic_text", "train", template="plain", rows=20_000)}
    assert len(held_out) > 1000 and len(seen) > 5000 and not held_out & seen


def test_the_base_text_is_of_mixed_quality():
    rng, grade = random.Random(0), rewards.load("math_answer")
    shares = {}
    for style in arithmetic_text.STYLES:
        texts = [arithmetic_text.write(47, 38, style, rng) for _ in range(50)]
        shares[style] = sum(grade(texts, answer=["85"] * 50)) / 50
    assert shares == {"tagged": 1, "slip": 0, "guess": 0, "untagged": 0, "unthinking": 1, "unclosed": 0}
    assert sum(arithmetic_text.STYLES.values()) == pytest.approx(1)


def test_a_slip_is_carried_through():
    """28 + 37: 8+7 is 15; with the first column off by one it reads 8+7=14 or 16, and the answer follows the slip."""
    assert arithmetic_text.worked(28, 37) == ("8+7=15, 2+3+1=6", 65)
    assert {arithmetic_text.worked(28, 37, random.Random(i))[1] for i in range(40)} <= {63, 64, 66, 67, 45, 55, 75, 85}


def test_countdown_says_when_there_are_no_more_problems():
    assert len(data.load("countdown", "test", numbers=2, rows=900)) == 900
    with pytest.raises(ValueError, match=r"rows=2000: no more than 1\d\d\d problems of split 'test' with numbers=2"):
        data.load("countdown", "test", numbers=2)


def test_countdown_is_solvable_and_its_splits_are_disjoint():
    rows = {s: data.load("countdown", s, template="plain", rows=300) for s in ("train", "test")}
    problems = {s: {(*sorted(r["nums"]), r["target"]) for r in rows[s]} for s in rows}
    assert len(problems["train"]) == len(problems["test"]) == 300 and not problems["train"] & problems["test"]
    assert all(reachable(row["nums"], row["target"]) for row in rows["test"])


def reachable(nums, target) -> bool:
    """By trying everything: any order, any operation, any grouping of three numbers."""
    operations = [lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / y if y else Fraction(0)]
    for a, b, c in itertools.permutations(map(Fraction, nums)):
        for f, g in itertools.product(operations, repeat=2):
            if target in (g(f(a, b), c), g(a, f(b, c))):
                return True
    return False


def test_templates():
    question = data.load("arithmetic", "train", rows=1)[0]["prompt"][-1]["content"]
    plain = data.load("arithmetic", "train", rows=1, template="plain")[0]["prompt"]
    r1_zero = data.load("arithmetic", "train", rows=1, template="r1_zero")[0]["prompt"]
    chat = data.load("arithmetic", "train", rows=1, template="chat")[0]["prompt"]
    assert plain == question + "\n"
    assert r1_zero.startswith("A conversation between User and Assistant.") and r1_zero.endswith(
        f"{question} Assistant:"
    )
    boxed = data.load("arithmetic", "train", rows=1, template="boxed")[0]["prompt"]
    assert [m["role"] for m in chat] == ["system", "user"] and chat[1]["content"] == question
    assert "</answer>" in chat[0]["content"] and boxed[1] == chat[1]
    assert boxed[0] == {
        "role": "system",
        "content": "Please reason step by step, and put your final answer within \\boxed{}.",
    }


def test_braces_in_a_question_survive_the_template():
    row = {"prompt": [{"role": "user", "content": r"Compute \frac{1}{2} of {question}."}]}
    assert r"Compute \frac{1}{2} of {question}." in _templates.render(row, "r1_zero")["prompt"]


@pytest.mark.parametrize("name", ["arithmetic", "gsm8k"])
def test_gold_scores_one_and_junk_zero(name, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(GSM8K_ROW) + "\n")
    rows = data.load("arithmetic", "test") if name == "arithmetic" else data.load(str(tmp_path / "rows.jsonl"))
    grade, gold = rewards.load("math_answer"), rows["answer"]
    assert grade([PERFECT.format(g) for g in gold], answer=gold) == [1.0] * len(gold)
    for junk in ("", "junk", PERFECT.format("junk"), PERFECT.format(-1), "<answer></answer>"):
        assert grade([junk] * len(gold), answer=gold) == [0.0] * len(gold)


@pytest.mark.launches
def test_rewards_load_nothing_heavy():
    code = "import sys, rewards; [rewards.load(n) for n in rewards.names()]; print(*({'torch', 'trl', 'sympy', 'datasets', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.launches
def test_packages_resolve_inside_the_repository(tmp_path):
    """Also from a folder that has a data/ of its own."""
    (tmp_path / "data").mkdir()
    code = "import data, rewards, recipes; print(data.__file__, rewards.__file__, recipes.__file__)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert all(Path(f).is_relative_to(REPO) for f in done.stdout.split())


def write(folder: Path, rows: list[dict]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_table_of_the_sets_names_all_of_them_and_where_they_are_from():
    rows = [line.split(" | ") for line in (REPO / "docs/data.md").read_text().splitlines() if line.startswith("| `")]
    cells = {name: line for line in rows for name in re.findall(r"`(\w+)`", line[0])}
    assert set(cells) == set(data.names())
    for name, line in cells.items():
        hub = getattr(data._module(name), "HUB", None)
        assert hub is None or hub in line[4] or name in ("cold_start", "preferences"), (name, hub)


def test_a_copy_of_a_set_is_read_by_its_module(tmp_path):
    """As a file, and as a folder with splits, as the hub's own download makes one."""
    rows = [GSM8K_ROW, GSM8K_ROW | {"question": "q"}]
    path = write(tmp_path, rows)
    folder = tmp_path / "gsm8k"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        Dataset.from_list(rows[: 1 if split == "test" else 2]).to_parquet(
            folder / split / f"{split}-00000-of-00001.parquet"
        )
    for place, split, n in ((path, "train", 2), (str(folder), "train", 2), (str(folder), "test", 1)):
        assert data.load("gsm8k", split, path=place)["answer"] == ["10"] * n
        assert len(data.load("openai/gsm8k", split, path=place)) == n
    with pytest.raises(ValueError, match=r"has the columns .*data/math.py needs problem, level too"):
        data.load("math", path=path)
    with pytest.raises(ValueError, match="there is no such file or folder"):
        data.load("gsm8k", path=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="'arithmetic' has no option 'path'"):
        data.load("arithmetic", path=path)


HERE, THERE = "a" * 40, "b" * 40


def test_a_set_of_the_hub_is_asked_for_by_its_revision(monkeypatch):
    asked, rows = [], Dataset.from_list([HUMANEVAL_ROW])

    def load_dataset(*names, **options):
        asked.append((*names, options))
        return rows

    monkeypatch.setattr(Dataset, "cache_files", [{"filename": f"/cache/x/default/0.0.0/{HERE}/x-test.arrow"}])
    monkeypatch.setattr(data._source, "load_dataset", load_dataset)
    monkeypatch.setattr(data._source, "mapped", lambda rows, function, **_: rows.add_column("unreadable", [None]))
    data.load("humaneval", "test", template=None, revision=HERE)
    assert asked.pop() == ("openai/openai_humaneval", None, {"split": "test", "revision": HERE})
    with pytest.raises(ValueError, match=f"its cache has revision {HERE}, and {THERE} is asked for"):
        data.load("humaneval", "test", template=None, revision=THERE)


@pytest.mark.parametrize(
    "error, words",
    [
        (ConnectionError("Couldn't reach 'x' on the Hub (OfflineModeIsEnabled)"), "OfflineModeIsEnabled"),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), "no longer supported"),
        (FileNotFoundError("Dataset 'x' is a gated dataset on the Hub.\nVisit"), "is a gated dataset"),
    ],
)
def test_a_set_that_can_not_be_had_is_one_line_with_the_way_out(monkeypatch, error, words):
    def load_dataset(*_, **__):
        raise error

    monkeypatch.setattr(data._source, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=words) as refused:
        data.load("leetcode", revision=HERE)
    said = str(refused.value)
    assert (
        "\n" not in said and "newfacade/LeetCodeDataset" in said and HERE in said and "dataset_options: {path:" in said
    )


def test_tokens_are_made_once(tmp_path, monkeypatch):
    """Rows of a file keep theirs in the cache, whatever the tokenizer did meanwhile; other ones are made where anything differs."""
    rows = data.load(write(tmp_path, [GSM8K_ROW] * 3), template="plain")
    tokenizer = model_loading.load_tokenizer("recipes/configs/sft/tiny-base")
    first = tokens.with_ids(rows, tokenizer)
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    made = []
    make = tokens.prompt_ids
    monkeypatch.setattr(tokens, "prompt_ids", lambda *given: made.append(1) or make(*given))
    again = tokens.with_ids(rows, tokenizer)
    assert not made and again["prompt_ids"][:] == first["prompt_ids"][:]
    tokenizer.eos_token = "<answer>"
    tokens.with_ids(rows, tokenizer)
    assert made
