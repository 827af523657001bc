"""Public maths sets, in tests/cases/sets: what becomes of each row, and that its gold is paid and another row's is not."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, Value

import data
import rewards
from data import _golds, _source, dapo_math_17k
from recipes.shared.dataset_rows import unreadable

SETS = Path(__file__).parent / "cases" / "sets"
PERFECT = "<think>\nbecause\n</think>\n<answer>\n{}\n</answer>"
NONE, NO_PROMPT = "no answer", "no prompt"
TESTS = ("aime24", "aime25", "amc23", "minerva", "olympiadbench", "math500")
TRAINS = ("openr1_math", "dapo_math_17k", "deepscaler", "orz_math", "big_math", "numina")

# file -> {number of the raw row: its gold, or what it lacks}; what isn't named is a copy of an earlier row
GOLDS = {
    "gsm8k.jsonl": ["18", "3", "70000", "540", "1080"],
    "math500.jsonl": [r"\frac{14}{3}", r"\text{even}", r"120^\circ", r"3\sqrt{13}", "(a+5)(b+2)"],
    "aime24.jsonl": ["25", "540", "321", "80", "55"],
    "aime25.jsonl": ["70", "666", "336", "24", "0"],
    "amc23.jsonl": ["36", "45", "3159", "8", "18"],
    "minerva.jsonl": ["1.6", "4.5e33", r"\arcsin{1.3 \sin{\theta_w}}", r"\sqrt{2 g h}", NONE, r"h \nu"],
    "olympiadbench.jsonl": ["2", "(1,2,6), (1,3,4)", r"\frac{9}{2}", "$5$, $-5$", "[0,1]", NONE, "120"],
    "openr1_math.jsonl": ["v_{R}=4,v_{B}=10", "B", NONE, r"\frac{1}{2}", NONE, "9", NONE],
    "dapo_math_17k.jsonl": ["34", "-3", "12", "6", "1007", NONE],
    "dapo_math_17k.original.jsonl": {0: "34", 1: "-3", 2: "12", 4: _golds.DIFFERING, 7: "1007"},
    "deepscaler.jsonl": {
        0: r"-\frac{2}{3}",
        1: "1024",
        2: NONE,
        4: _golds.DIFFERING,
        7: r"90^\circ",
        8: r"2\sqrt{2}",
        9: "6",
    },
    "orz_math.json": ["431", r"\frac{n(3n-1)}{2}", r"\frac{3}{2}", NONE, "3", NO_PROMPT, NONE],
    "big_math.jsonl": [r"10\%", "56", "x^2+2x+1", "2i", NONE, r"\frac{3}{2}"],
    "big_math.original.jsonl": [r"10\%", "56", "x^2+2x+1", "2i", NONE, r"\frac{3}{2}"],
    "numina.jsonl": [NONE, NONE, "144", "B", NONE, NONE, r"\frac{3}{2}", NO_PROMPT, r"\pi"],
    "numina.cot.jsonl": [r"\frac{13}{6}", "14", NONE, r"\{0, 2, 4, 6, 8\}", NONE, r"\frac{3}{2}"],
}
PROBLEM = {"gsm8k": "question", "amc23": "question", "minerva": "question"}  # the column; "problem" for the others


def raw_rows(file: str) -> list[dict]:
    text = (SETS / file).read_text()
    return json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]


def name_of(file: str) -> str:
    return file.partition(".")[0]


def rows_of(file: str, **options) -> Dataset:
    name = name_of(file)
    return data.load(name, data._module(name).SPLITS[-1], path=str(SETS / file), template=None, **options)


def expected(file: str) -> dict[int, str]:
    golds = GOLDS[file]
    return golds if isinstance(golds, dict) else dict(enumerate(golds))


def problem_of(file: str, raw: dict | list) -> str | None:
    """A raw row's problem, read in the simplest way."""
    if file.startswith("orz_math"):
        return raw[0]["value"]
    if file == "dapo_math_17k.original.jsonl":
        text = raw["prompt"][0]["content"]
        return text.split("\n\n")[1] if text.endswith('after "Answer:".') else text
    if file.startswith("olympiadbench"):
        return "\n\n".join(text for text in (raw["context"], raw["question"]) if text)
    return raw["prompt"] if "prompt" in raw else raw[PROBLEM.get(name_of(file), "problem")]


def test_every_set_has_its_rows_here():
    assert {name_of(file) for file in GOLDS} == {"gsm8k", *TESTS, *TRAINS}
    assert set(GOLDS) == {path.name for path in SETS.iterdir() if path.name in GOLDS}


@pytest.mark.parametrize("file", GOLDS)
def test_rows(file):
    raw, rows, wanted = raw_rows(file), rows_of(file), expected(file)
    lacks = {NONE, NO_PROMPT, _golds.DIFFERING}
    assert len(raw) >= 5 and rows["answer"][:] == [None if gold in lacks else gold for gold in wanted.values()]
    said = {lack: {i for i, gold in enumerate(wanted.values()) if gold == lack} for lack in lacks & {*wanted.values()}}
    assert unreadable(rows) == said
    for i, prompt in zip(wanted, rows["prompt"], strict=True):
        text = problem_of(file, raw[i])
        assert prompt == ([{"role": "user", "content": text.strip()}] if text else [])


@pytest.mark.parametrize("file", GOLDS)
def test_a_gold_is_paid_and_another_rows_is_not(file):
    golds = [gold for gold in rows_of(file)["answer"] if gold is not None]
    others = [*golds[1:], golds[0]]
    grade = rewards.load("math_answer")
    assert grade([PERFECT.format(gold) for gold in golds], answer=golds) == [1.0] * len(golds)
    assert grade([PERFECT.format(gold) for gold in others], answer=golds) == [0.0] * len(golds)
    assert grade([""] * len(golds), answer=golds) == [0.0] * len(golds)


@pytest.mark.parametrize("name", [*TESTS, *TRAINS])
def test_a_module_asks_the_hub_for_its_set(name, monkeypatch):
    module, asked = data._module(name), []
    file = next(file for file in GOLDS if name_of(file) == name)

    def load_dataset(hub, config=None, *, split, **pinned):
        asked.append((hub, config, split, pinned))
        return copy

    copy = _source.read_copy(str(SETS / file), "train")
    assert [*module.SPLITS] == ["test" if name in TESTS else "train"] and "answer" in module.GIVES
    monkeypatch.setattr(_source, "load_dataset", load_dataset)
    assert len(data.load(name, module.SPLITS[0])) == len(expected(file))
    (hub, config, split, pinned) = asked[0]
    assert (hub, config) == (module.HUB, getattr(module, "CONFIG", None)) and hub.count("/") == 1
    assert split == ("train" if name in (*TRAINS, "aime24", "olympiadbench") else "test")
    assert name == "orz_math" or len(pinned["revision"]) == 40
    assert name == "openr1_math" or data._named(hub) is module


def test_a_hub_set_that_two_modules_read_is_named_by_module():
    with pytest.raises(ValueError, match="is read by openr1_math and by openr1_traces: name the one that is meant"):
        data.check("open-r1/OpenR1-Math-220k")


@pytest.mark.parametrize("name", [*TESTS, *TRAINS])
def test_a_set_of_other_columns_is_refused(name, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "1 + 1 = 2"}\n')
    with pytest.raises(ValueError, match=rf"has the columns text, and data/{name}.py needs "):
        data.load(name, data._module(name).SPLITS[0], path=str(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    "answer, bare, whole",
    [
        (None, None, None),
        ([], None, None),
        ("$ $", None, None),
        (r"\boxed{}", None, None),
        (["$5$"], "5", "5"),
        (21.0, "21", "21"),
        ("27.0", "27.0", "27"),
        ("27.50", "27.50", "27.50"),
        ("025", "025", "25"),
        ("000", "000", "0"),
        (r"$336^\circ$", r"336^\circ", "336"),
        (r"90^{\circ}", r"90^{\circ}", "90"),
        (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}", r"\frac{1}{2}"),
        (r"\boxed{ 6 }", "6", "6"),
        (r"\boxed{1}, \boxed{2}", r"\boxed{1}, \boxed{2}", r"\boxed{1}, \boxed{2}"),
        ("$1$, $2$", "$1$, $2$", "$1$, $2$"),
        (r"$5\$", r"$5\$", r"$5\$"),
        (r"$\$5$", r"\$5", r"\$5"),
    ],
)
def test_golds(answer, bare, whole):
    assert (_golds.bare(answer), _golds.whole(answer)) == (bare, whole)


@pytest.mark.parametrize(
    "text, inside",
    [
        (r"\boxed{1} or \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\boxed{3} + 1}", r"\boxed{3} + 1"),
        (r"\boxed {a \{ b}", r"a \{ b"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"} \boxed{4}", "4"),
        ("no box", None),
        (None, None),
    ],
)
def test_the_last_box_of_a_solution(text, inside):
    assert _golds.boxed(text) == inside


def test_of_many_copies_one_is_left_that_has_a_gold(tmp_path):
    problems = [(f"What is {i % 900} + 1?", "" if i < 900 else str(i % 900 + 1 + (i == 2699))) for i in range(2700)]
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"problem": p, "answer": a, "solution": ""}) for p, a in problems]
    path.write_text("\n".join([*lines, "{", json.dumps({"problem": None, "answer": "5"}), "{"]))
    rows = data.load("deepscaler", path=str(path), template=None)
    assert [p and p[0]["content"] for p in rows["prompt"]] == [p for p, _ in problems[:900]] + [[]] * 3
    assert rows["answer"][:] == [*(str(i + 1) for i in range(899)), None, None, None, None]
    said = unreadable(rows)
    assert said.pop(_golds.DIFFERING) == {899} and said.pop(NO_PROMPT) == {901}
    assert set.union(*said.values()) == {900, 902} and all("isn't JSON" in lack for lack in said)


@pytest.mark.parametrize("file", ["dapo_math_17k.jsonl", "dapo_math_17k.original.jsonl"])
def test_dapo_in_one_language(file):
    assert rows_of(file, language="cn")["answer"][:] == ["12"]
    assert len(rows_of(file, language="en")) == len(rows_of(file)) - 1
    with pytest.raises(ValueError, match="language='de' is not one of all, en, cn"):
        rows_of(file, language="de")


def test_an_instruction_of_which_one_end_is_missing_stays():
    before, behind = dapo_math_17k.BEFORE, dapo_math_17k.BEHIND
    assert dapo_math_17k.question_of(before + "What?" + behind) == "What?"
    for text in (before + "What?", "What?" + behind, "In short: " + before + "What?" + behind):
        assert dapo_math_17k.question_of([{"role": "user", "content": text}]) == text


def test_numina_without_what_was_found_invalid():
    assert rows_of("numina.jsonl", valid=True)["answer"][:] == [None, "144", "B", None, None, r"\pi"]
    with pytest.raises(ValueError, match="needs the column 'problem_is_valid'"):
        rows_of("numina.cot.jsonl", valid=True)


@pytest.mark.parametrize("file", ["big_math.jsonl", "big_math.original.jsonl"])
def test_big_math_has_a_pass_rate_and_is_recognised(file):
    rates = [raw["llama8b_solve_rate"] for raw in raw_rows(file)]
    assert rows_of(file)["pass_rate"][:] == rates == data.load(str(SETS / file))["pass_rate"][:]
    assert rows_of(file).features["pass_rate"] == Value("float64")
    assert rows_of(file, pass_rate=[0.2, 0.9])["answer"][:] == [r"10\%", "x^2+2x+1", r"\frac{3}{2}"]


def test_openr1_math_is_read_without_its_solutions():
    raw = _source.read_copy(str(SETS / "openr1_math.jsonl"), "train")
    left = data._module("openr1_math").select(raw)
    assert {"generations", "messages"} <= {*raw.column_names} - {*left.column_names}
