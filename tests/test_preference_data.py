"""Pairs to prefer by and demonstrations to imitate: read from every public shape, or made with a known flaw."""

import json
import random
from collections import Counter

import pytest
from datasets import Dataset

import data
import rewards
from data import _source, _templates, arithmetic, cold_start, preferences

USER = {"role": "user", "content": "What color is the sky?"}
BLUE = {"role": "assistant", "content": "It is blue."}
GREEN = {"role": "assistant", "content": "It is green."}
EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SYSTEM = {"role": "system", "content": "Be brief."}
SCORES = {"score_chosen": 8.0, "score_rejected": 3.0}
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: What color is the sky?\n\nAssistant: It is {}."

PAIRS = {
    "H4": {"prompt": USER["content"], "prompt_id": "0a", "chosen": [USER, BLUE], "rejected": [USER, GREEN]}
    | {"messages": [USER, BLUE]}
    | SCORES,
    "trl-lib": {"chosen": [USER, BLUE], "rejected": [USER, GREEN]} | SCORES,
    "messages": {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]},
    "repeated": {"prompt": [USER], "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
    "text": {"prompt": USER["content"], "chosen": BLUE["content"], "rejected": GREEN["content"]},
    "half text": {"prompt": [USER], "chosen": BLUE["content"], "rejected": GREEN["content"]},
    "no prompt": {"prompt": None, "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
    "hh": {"chosen": HH.format("blue"), "rejected": HH.format("green")},
    "turns": {"chosen": [*EARLIER, USER, BLUE], "rejected": [*EARLIER, USER, GREEN]},
    "last turn": {
        "prompt": USER["content"],
        "chosen": [*EARLIER, USER, BLUE],
        "rejected": [*EARLIER, USER, GREEN],
    },
    "system": {"prompt": [SYSTEM, USER], "chosen": [BLUE], "rejected": [GREEN]},
}
BEFORE = {"hh": EARLIER, "turns": EARLIER, "last turn": EARLIER, "system": [SYSTEM]}


@pytest.mark.parametrize("shape", PAIRS)
def test_every_shape_of_a_pair_reads_the_same(shape):
    want = {"prompt": [*BEFORE.get(shape, []), USER], "chosen": [BLUE], "rejected": [GREEN]}
    assert preferences.to_row(PAIRS[shape]) == want


@pytest.mark.parametrize("shape", PAIRS)
def test_a_file_of_pairs_is_recognised(tmp_path, shape):
    rows, how = data.read(write(tmp_path, [PAIRS[shape]]), "train", template=None)
    others = {c: v for c, v in PAIRS[shape].items() if c not in ("prompt", "chosen", "rejected")}
    assert rows.to_list() == [preferences.to_row(PAIRS[shape]) | others] and how.startswith("preferences")


def test_what_grades_a_pair_is_kept():
    raw = PAIRS["text"] | {"answer": "42", "tests": {"type": "assert"}, "first_error": 6, "source": "x"}
    assert preferences.to_row(raw) == preferences.to_row(PAIRS["text"]) | {
        "answer": "42",
        "tests": {"type": "assert"},
        "first_error": 6,
    }


def test_equal_answers_are_a_row():
    row = preferences.to_row({"prompt": [USER], "chosen": [BLUE], "rejected": [BLUE]})
    assert row["chosen"] == row["rejected"] == [BLUE]


BLANK = {"role": "assistant", "content": " \n"}
NOTHING = {"role": "assistant", "content": None}
OTHER = {"role": "user", "content": "What color is grass?"}
PART = {"role": "assistant", "content": [{"type": "text", "text": "It is blue."}]}


@pytest.mark.parametrize(
    "raw, prompt",
    [
        ({"chosen": [USER, BLUE], "rejected": [OTHER, GREEN]}, []),
        ({"chosen": [*EARLIER, USER, BLUE], "rejected": [USER, GREEN]}, []),
        ({"prompt": [OTHER], "chosen": [USER, BLUE], "rejected": [USER, GREEN]}, [OTHER]),
        ({"prompt": OTHER["content"], "chosen": [USER, BLUE], "rejected": [USER, GREEN]}, [OTHER]),
        ({"prompt": [USER], "chosen": [USER, BLUE], "rejected": [OTHER, GREEN]}, [USER]),
        ({"chosen": [USER, OTHER], "rejected": [USER, GREEN]}, [USER]),
        ({"prompt": [USER], "chosen": [USER], "rejected": [GREEN]}, [USER]),
        ({"prompt": [USER], "chosen": [BLUE, BLUE], "rejected": [GREEN]}, [USER]),
        ({"prompt": [USER, BLUE], "chosen": [BLUE], "rejected": [GREEN]}, [USER, BLUE]),
        ({"chosen": [BLUE], "rejected": [GREEN]}, []),
        ({"chosen": [USER, BLUE], "rejected": [USER, BLANK]}, [USER]),
        ({"chosen": [USER, NOTHING], "rejected": [USER, GREEN]}, [USER]),
        ({"prompt": [USER], "chosen": [PART], "rejected": [GREEN]}, [USER]),
        ({"prompt": [USER], "chosen": [], "rejected": [GREEN]}, [USER]),
        ({"prompt": [USER], "chosen": None, "rejected": [GREEN]}, [USER]),
        ({"prompt": USER["content"], "chosen": "It is blue.", "rejected": ""}, [USER]),
        ({"prompt": USER["content"], "chosen": None, "rejected": None}, [USER]),
        ({"prompt": " ", "chosen": "It is blue.", "rejected": "It is green."}, [{"role": "user", "content": " "}]),
        ({"prompt": None, "chosen": "It is blue.", "rejected": "It is green."}, []),
        ({"chosen": "It is blue.", "rejected": "It is green."}, []),
        ({"chosen": HH.format("blue"), "rejected": HH.format("green").replace("Hi", "Hey")}, []),
        ({"chosen": HH.format("blue") + "\n\nHuman: Thanks", "rejected": HH.format("green")}, []),
        ({"chosen": HH.format("blue"), "rejected": HH.partition(" It is")[0]}, [*EARLIER, USER]),
        ({"chosen": "So:" + HH, "rejected": "So:" + HH}, []),
        ({"chosen": None, "rejected": None}, []),
    ],
)
def test_a_pair_that_cannot_be_read_has_no_answers(raw, prompt):
    assert preferences.to_row(raw) == {"prompt": prompt, "chosen": None, "rejected": None}


@pytest.mark.parametrize(
    "a, b, flaw, wants",
    [
        # <think>8+7=15, 2+3+1=6</think><answer>65</answer>: the columns' results are at 11 and 21, the answer at 38
        (28, 37, "untagged", {"8+7=15, 2+3+1=6 so it is 65": 0}),
        (28, 37, "unthinking", {"<answer>65</answer>": 1}),
        (28, 37, "unclosed", {"<think>8+7=15, 2+3+1=6 so 65": 22}),
        (
            28,
            37,
            "answer",
            {
                f"<think>8+7=15, 2+3+1=6</think><answer>{n}</answer>": at
                for n, at in {45: 38, 55: 38, 63: 39, 64: 39, 66: 39, 67: 39, 75: 38, 85: 38}.items()
            },
        ),
        (
            28,
            37,
            "guess",
            {f"<think>28+37</think><answer>{n}</answer>": 7 for n in (45, 55, 63, 64, 66, 67, 75, 85)},
        ),
        (
            28,
            37,
            "slip",
            {
                f"<think>{work}</think><answer>{n}</answer>": at
                for work, n, at in [
                    ("8+7=13, 2+3+1=6", 63, 12),
                    ("8+7=14, 2+3+1=6", 64, 12),
                    ("8+7=16, 2+3+1=6", 66, 12),
                    ("8+7=17, 2+3+1=6", 67, 12),
                    ("8+7=15, 2+3+1=4", 45, 21),
                    ("8+7=15, 2+3+1=5", 55, 21),
                    ("8+7=15, 2+3+1=7", 75, 21),
                    ("8+7=15, 2+3+1=8", 85, 21),
                ]
            },
        ),
        # 0+0 only slips upwards: below 0 it would read 0, as it does
        (
            10,
            10,
            "slip",
            {
                "<think>0+0=1, 1+1=2</think><answer>21</answer>": 11,
                "<think>0+0=2, 1+1=2</think><answer>22</answer>": 11,
                **{f"<think>0+0=0, 1+1={n}</think><answer>{n}0</answer>": 18 for n in (1, 3, 4)},
                "<think>0+0=0, 1+1=0</think><answer>0</answer>": 18,
            },
        ),
        (
            9,
            1,
            "slip",
            {f"<think>9+1={n}</think><answer>{n}</answer>": 12 if n > 10 else 11 for n in (8, 9, 11, 12)},
        ),
        # the guess goes on like the solution until that has a result
        (2, 3, "guess", {f"<think>2+3</think><answer>{5 + d}</answer>": 10 for d in (-20, -10, -2, -1, 1, 2, 10, 20)}),
    ],
)
def test_flaws_and_where_they_begin(a, b, flaw, wants):
    rng = random.Random(0)
    rows = [preferences.pair(a, b, flaw, rng) for _ in range(300)]
    assert {row["rejected"][0]["content"]: row["first_error"] for row in rows} == wants
    assert {row["flaw"] for row in rows} == {flaw} and {row["answer"] for row in rows} == {str(a + b)}


@pytest.mark.parametrize("split, digits", [("train", 2), ("test", 2), ("train", 1), ("test", 4)])
def test_a_generated_pair_differs_where_it_says_and_the_better_answer_scores_more(split, digits):
    rows = data.load("preferences", split, template="plain", digits=digits, rows=2000)
    math, form = rewards.load("math_answer"), rewards.load("think_format")
    score = {
        side: list(zip(math(rows[side], answer=rows["answer"]), form(rows[side]), strict=True))
        for side in ("chosen", "rejected")
    }
    assert len(rows) == 2000 and set(score["chosen"]) == {(1.0, 1.0)}
    assert all(sum(pair) < 2 for pair in score["rejected"])
    for row in rows:
        at, chosen, rejected = row["first_error"], row["chosen"], row["rejected"]
        assert chosen[:at] == rejected[:at] and chosen[at] != rejected[at]
    by_flaw = {flaw: {s for s, f in zip(score["rejected"], rows["flaw"], strict=True) if f == flaw} for flaw in FLAWED}
    assert by_flaw == FLAWED


# (math_answer, think_format) of every rejected answer with this flaw
FLAWED = {
    "slip": {(0.0, 1.0)},
    "answer": {(0.0, 1.0)},
    "guess": {(0.0, 1.0)},
    "untagged": {(0.0, 0.0)},
    "unthinking": {(1.0, 0.0)},
    "unclosed": {(0.0, 0.0)},
}


def test_flaws_come_in_their_shares():
    assert sum(preferences.FLAWS.values()) == pytest.approx(1) and preferences.FLAWS.keys() == FLAWED.keys()
    count = Counter(preferences.load("train", rows=5000)["flaw"])
    assert {flaw: count[flaw] / 5000 for flaw in count} == pytest.approx(preferences.FLAWS, abs=0.03)


def sums(rows) -> set[tuple[int, ...]]:
    """The additions asked for, whichever way round."""
    texts = (row["prompt"][-1]["content"].removeprefix("What is ").removesuffix("?") for row in rows)
    return {tuple(sorted(map(int, text.split(" + ")))) for text in texts}


@pytest.mark.parametrize("name, rows", [("preferences", 3000), ("cold_start", 1000)])
def test_generated_splits_share_no_sum(name, rows):
    train, test = (sums(data.load(name, split, template=None, rows=rows)) for split in ("train", "test"))
    assert len(train) > 500 and len(test) > 500 and not train & test
    assert {arithmetic.split_of(*pair) for pair in test} == {"test"}


@pytest.mark.parametrize("name", ["preferences", "cold_start"])
def test_generated_rows_are_the_same_for_a_seed(name):
    first, again, other = (data.load(name, "train", rows=200, seed=s).to_list() for s in (3, 3, 4))
    assert first == again != other


def test_splits_that_are_not_generated_name_the_way_out():
    with pytest.raises(ValueError, match=r"split='train_prefs' .* train and test: .* HuggingFaceH4/ultrafeedback_bin"):
        data.load("preferences", "train_prefs")
    with pytest.raises(ValueError, match="split 'train_prefs' of dataset 'cold_start' is unknown"):
        data.load("cold_start", "train_prefs")


TRACE = "<think>\nOkay, 6 times 7.\n</think>\n\nIt is \\(\\boxed{42}\\)."
TAGGED = "<think>\nOkay, 6 times 7.\n</think><answer>It is \\(\\boxed{42}\\).</answer>"
OWN = "<think>6*7=42</think>\n<answer>42</answer>\n"
ASK = {"role": "user", "content": "What is 6 * 7?"}


@pytest.mark.parametrize(
    "trace, want",
    [
        (TRACE, TAGGED),
        (OWN, OWN),
        (TAGGED, TAGGED),
        ("\n" + TRACE + "\n", TAGGED),
        ("<think>6*7</think>42", "<think>6*7</think><answer>42</answer>"),
        ("It is 42.", None),
        ("", None),
        ("<think>6*7=42, so 42", None),
        ("6*7=42</think>42", None),
        ("</think><think>6*7 42", None),
        ("<think>6*7</think>", None),
        ("<think>6*7</think> \n", None),
        ("<think>\n\n</think>42", None),
        ("<think>6*7</think><answer> </answer>", None),
        ("<think>6*7</think>42<think>so</think>42", None),
        ("<think>6<think>*</think>7</think>42", None),
        ("Well, " + TRACE, None),
        (OWN + "Done.", None),
        ("<think>6*7</think>So <answer>42</answer>", None),
        ("<think>6*7</think><answer>42", None),
        ("<think>6*7</think><answer>42</answer><answer>42</answer>", None),
        ("<think>an <answer> tag</think>42", None),
    ],
)
def test_a_trace_is_tagged_or_left_out(trace, want):
    assert cold_start.tagged(trace) == want
    if want:
        assert rewards.load("math_answer")([want], answer=["42"]) == [1.0]
        assert rewards.load("think_format")([want]) == [1.0]


def said(text) -> dict:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "raw, text",
    [
        ({"messages": [ASK, said(TRACE)], "num_tokens": 9, "source": "x"}, TAGGED),
        ({"messages": [ASK, said(TRACE)], "problem": "q", "solution": "s", "answer": "42"}, TAGGED),
        ({"messages": [SYSTEM, ASK, said(TRACE)]}, TAGGED),
        ({"prompt": ASK["content"], "completion": TRACE}, TAGGED),
        ({"prompt": [ASK], "completion": [said(OWN)], "answer": "42"}, OWN),
        ({"prompt": [SYSTEM, ASK], "completion": [said(OWN)], "answer": "42", "tests": {"type": "assert"}}, OWN),
    ],
)
def test_every_shape_of_a_demonstration(tmp_path, raw, text):
    kept = {c: raw[c] for c in ("answer", "tests") if c in raw}
    own = [SYSTEM] * ((raw.get("messages") or raw["prompt"])[0] == SYSTEM)
    want = {"prompt": [*own, ASK], "completion": [said(text)]} | kept
    assert cold_start.to_row(raw) == want
    others = {c: v for c, v in raw.items() if c not in ("prompt", "completion", "messages")}
    assert data.load(write(tmp_path, [raw]), "train", template=None).to_list() == [want | others]


@pytest.mark.parametrize(
    "raw, prompt",
    [
        ({"messages": [ASK, said("It is 42.")]}, [ASK]),
        ({"messages": [ASK, said(None)]}, [ASK]),
        ({"messages": [ASK, said(TRACE), ASK]}, [ASK, said(TRACE)]),
        ({"messages": [said(TRACE)]}, []),
        ({"messages": []}, []),
        ({"messages": None}, []),
        ({"messages": [{"from": "human", "value": "q"}]}, []),
        ({"prompt": "", "completion": TRACE}, [{"role": "user", "content": ""}]),
        ({"prompt": None, "completion": TRACE}, []),
        ({"prompt": [SYSTEM], "completion": TRACE}, [SYSTEM]),
        ({"prompt": [ASK], "completion": None}, [ASK]),
        ({"prompt": [ASK], "completion": [said(TRACE), said(TRACE)]}, [ASK]),
        ({"prompt": [ASK], "completion": [ASK]}, [ASK]),
    ],
)
def test_a_demonstration_that_cannot_be_read_has_no_completion(raw, prompt):
    assert cold_start.to_row(raw) == {"prompt": prompt, "completion": None}


ONE_TURN = {side: PAIRS["hh"][side].partition("Assistant: Hello")[2] for side in ("chosen", "rejected")}


def test_generated_demonstrations_are_distinct_and_right():
    rows = data.load("cold_start", "test", template="plain", rows=600)
    assert len(set(rows["prompt"])) == 600 and rows.column_names == ["prompt", "answer", "completion"]
    assert rewards.load("math_answer")(rows["completion"], answer=rows["answer"]) == [1.0] * 600
    assert rewards.load("think_format")(rows["completion"]) == [1.0] * 600
    with pytest.raises(ValueError, match="rows=100: test has only"):
        data.load("cold_start", "test", digits=1, rows=100)


@pytest.mark.parametrize(
    "broken, good, answers",
    [
        ({"chosen": None, "rejected": None}, PAIRS["trl-lib"], ["chosen", "rejected"]),
        ({"chosen": "", "rejected": ""}, ONE_TURN, ["chosen", "rejected"]),
        ({"messages": None}, {"messages": [ASK, said(TRACE)]}, ["completion"]),
        ({"prompt": None, "completion": None}, {"prompt": "q", "completion": TRACE}, ["completion"]),
    ],
)
@pytest.mark.parametrize("template", ["chat", "plain", None])
def test_a_thousand_broken_rows_in_front_do_not_hide_the_good_one(tmp_path, broken, good, answers, template):
    raw = [{column: broken.get(column) for column in good}] * 1500 + [good]
    rows = data.load(write(tmp_path, raw), "train", template=template)
    assert len(rows) == 1501
    for answer in answers:
        assert rows[0][answer] is None and rows[answer].count(None) == 1500 and rows[1500][answer]


@pytest.mark.parametrize(
    "columns, found",
    [
        (["prompt", "chosen", "rejected"], "preferences"),
        (["prompt", "prompt_id", "chosen", "rejected", "messages"], "preferences"),
        (["chosen", "rejected", "answer"], "preferences"),
        (["prompt", "completion"], "cold_start"),
        (["prompt", "completion", "messages", "answer"], "cold_start"),
        (["problem", "solution", "answer", "messages"], "cold_start"),
        (["question", "answer", "prompt"], "gsm8k"),
        (["target", "nums", "prompt"], "countdown"),
        (["task_id", "prompt", "canonical_solution", "test", "entry_point"], "humaneval"),
        (["text", "code", "test_list", "test_setup_code"], "mbpp"),
    ],
)
def test_columns_say_whose_rows_they_are(columns, found):
    assert data._fitting("x/y", columns)[0].__name__ == f"data.{found}"


def test_columns_of_two_sets_are_refused():
    with pytest.raises(ValueError, match="several sets: cold_start, preferences"):
        data._fitting("x/y", ["prompt", "completion", "chosen", "rejected"])
    assert data._fitting("x/y", ["prompt", "answer"]) == (None, ())


def test_a_hub_set_is_read_with_its_split_and_config(monkeypatch):
    asked = []

    def load_dataset(*names, split):
        asked.append((*names, split))
        return Dataset.from_list([PAIRS["H4"]])

    monkeypatch.setattr(_source, "load_dataset", load_dataset)
    rows = data.load("HuggingFaceH4/ultrafeedback_binarized", "train_prefs", template=None)
    assert rows.select_columns(["prompt", "chosen", "rejected"]).to_list() == [preferences.to_row(PAIRS["H4"])]
    data.load("trl-lib/ultrafeedback_binarized", "test", config="all")
    assert asked == [
        ("HuggingFaceH4/ultrafeedback_binarized", None, "train_prefs"),
        ("trl-lib/ultrafeedback_binarized", "all", "test"),
    ]
    with pytest.raises(ValueError, match="takes no option 'rows'"):
        data.load("trl-lib/ultrafeedback_binarized", rows=3)


def test_a_file_has_no_config(tmp_path):
    with pytest.raises(ValueError, match="takes no option 'config'"):
        data.load(write(tmp_path, [PAIRS["text"]]), config="all")


def test_both_answers_follow_the_template():
    row = preferences.to_row(PAIRS["system"])
    assert _templates.render(row, "chat") == row
    assert _templates.render(preferences.to_row(PAIRS["text"]), "plain") == {
        "prompt": "What color is the sky?\n",
        "chosen": "It is blue.",
        "rejected": "It is green.",
    }
    prompt = _templates.render(preferences.to_row(PAIRS["turns"]), "chat")["prompt"]
    assert prompt == [{"role": "system", "content": _templates.SYSTEM}, *EARLIER, USER]
    for shape, more in (("system", "a system message of its own .'Be brief.'"), ("turns", "earlier turns .'Hi'")):
        with pytest.raises(ValueError, match=more):
            _templates.render(preferences.to_row(PAIRS[shape]), "plain")
    broken = preferences.to_row({"chosen": None, "rejected": None})
    assert _templates.render(broken, "plain") == {"prompt": "\n", "chosen": None, "rejected": None}


def test_no_template_leaves_the_messages_as_they_are(tmp_path):
    row = preferences.load("train", rows=1)[0]
    assert data.load("preferences", "train", rows=1, template=None)[0] == row
    again = data.load(write(tmp_path, [row]), "train", template=None)[0]
    assert again == row


def test_cached_rows_are_not_those_of_older_code(tmp_path, monkeypatch):
    raw = Dataset.from_list([{"prompt": "q", "completion": OWN}])
    (tmp_path / "module.py").write_text("1")
    monkeypatch.setattr(_source, "__file__", str(tmp_path / "_source.py"))
    first, again = (_source.to_rows(raw, cold_start.to_row)._fingerprint for _ in range(2))
    (tmp_path / "module.py").write_text("2")
    assert first == again != _source.to_rows(raw, cold_start.to_row)._fingerprint


def write(folder, rows) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
