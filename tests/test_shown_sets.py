"""Public sets of pairs and of demonstrations, in tests/cases/sets: what is learned of each row, and why others can't be read."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

import data
import rewards
from data import _source, kto_mix_14k, openr1_traces
from recipes.shared import dataset_rows, model_loading

SETS = Path(__file__).parent / "cases" / "sets"
DIFFER, SHARE, PROMPT = "no two answers to one prompt", "no prompt that both share", "no prompt"
THOUGHTS, UNJUDGED = "no thoughts in one <think> block before an answer", "no complete trace that was judged right"

# file -> of each row the prompt's last turn with the better and the worse answer, or what the row lacks
PAIRS = {
    "ultrafeedback_binarized": [
        ("Name a colour.", "Blue.", "I am a language model."),
        ("Name a planet.", "Mars, the fourth from the Sun.", "Mars."),  # a tie of scores
        ("Say yes.", "Yes.", "Yes."),
        DIFFER,  # an empty answer
        DIFFER,  # two prompts
        ("Count to two.", "1, 2", "2, 1"),
    ],
    "hh_rlhf": [
        ("Hi", "Hello!", "Go away."),
        ("Is it soft?", "Yes, quite.", "No."),
        SHARE,  # the two talks part before their last turn
        ("Is it late?", "It is noon.", "It is noon."),
        DIFFER,  # an empty answer
        SHARE,  # a person's turn at the end of one
        ("Name a tree", 'An oak: it says "Assistant: oak" on it.', "A rose."),
        SHARE,  # no turns in the set's own form
    ],
    "kto_mix_14k": [
        kto_mix_14k.NO_LABEL,
        ("Name a bird.", "A wren.", "A bat."),
        ("Name a bird.", "A robin.", "A bee."),
        kto_mix_14k.LEFT_OVER,
        ("Name a fish.", "A carp.", "A cow."),
        kto_mix_14k.LEFT_OVER,
        DIFFER,  # an empty answer
    ],
}
# file -> of each row the thoughts and the answer that are imitated, or what the row lacks
TRACES = {
    "mixture_of_thoughts": [
        ("Okay, 42.", r"It is \(\boxed{42}\)."),
        ("A call of print.", "```python\nprint(1)\n```"),
        THOUGHTS,  # never closed
        THOUGHTS,  # closed twice
        THOUGHTS,  # no answer
        THOUGHTS,  # none at all
        PROMPT,
        PROMPT,
    ],
    "openr1_traces": [
        ("Six sevens.", r"It is \(\boxed{42}\)."),  # the second of three: the first is wrong
        ("Two and two.", r"It is \(\boxed{4}\)."),  # the first isn't complete
        ("A half.", r"It is \(\boxed{one half}\)."),  # by the second judge
        UNJUDGED,  # nothing says whether they are complete
        UNJUDGED,  # one verdict for two traces
        ("Ten.", r"It is \(\boxed{10}\)."),  # two that are right can't be read
        UNJUDGED,
        UNJUDGED,
        PROMPT,
    ],
    "openthoughts": [
        ("Six sevens.", r"It is \(\boxed{42}\)."),
        ("It is.", "Yes."),  # human and gpt
        ("It is.", "Yes."),  # in R1's own tags
        THOUGHTS,  # cut off in the thoughts
        THOUGHTS,  # and in the answer
        THOUGHTS,  # two answers
        THOUGHTS,  # an empty one
        ("It is.", "Yes."),  # with a system turn
        PROMPT,
    ],
    "s1k_1_1": [
        ("Six sevens.", r"It is \(\boxed{42}\)."),
        ("Two and two.\n\nSo four.", "4"),
        THOUGHTS,  # no answer
        THOUGHTS,  # no thoughts
        THOUGHTS,  # a tag in the thoughts
        PROMPT,
    ],
    "s1k_1_1.lists": [("Six sevens.", r"It is \(\boxed{42}\)."), THOUGHTS, THOUGHTS],
}


def rows_of(file: str, **options) -> Dataset:
    return data.load(file.partition(".")[0], "train", path=str(SETS / f"{file}.jsonl"), template=None, **options)


def lacks(rows: Dataset) -> list[str | None]:
    return rows["unreadable"][:] if "unreadable" in rows.column_names else [None] * len(rows)


def said(turns: list[dict]) -> str:
    assert [m["role"] for m in turns] == ["assistant"]
    return turns[0]["content"]


@pytest.mark.parametrize("file", PAIRS)
def test_of_each_pair_both_answers_are_read_or_its_fault_is_said(file):
    rows = rows_of(file)
    found = [
        lack or (row["prompt"][-1]["content"], said(row["chosen"]), said(row["rejected"]))
        for row, lack in zip(rows, lacks(rows), strict=True)
    ]
    assert found == PAIRS[file]
    assert all((row["chosen"] is None) == isinstance(want, str) for row, want in zip(rows, PAIRS[file], strict=True))


@pytest.mark.parametrize("file", TRACES)
def test_of_each_trace_the_thoughts_and_the_answer_are_read_or_its_fault_is_said(file):
    rows = rows_of(file)
    assert len(rows) == len(TRACES[file])
    for row, lack, want in zip(rows, lacks(rows), TRACES[file], strict=True):
        if lack:
            assert lack == want
            continue
        thoughts, _, rest = said(row["completion"]).removeprefix("<think>").partition("</think>")
        answer = rest.strip().removeprefix("<answer>").removesuffix("</answer>")
        assert (thoughts.strip(), answer.strip()) == want
        assert rewards.load("think_format")([said(row["completion"])]) == [1.0]
        assert [m["role"] for m in row["prompt"]] == ["user"], "a set's own system text asks for its own tags"


def test_traces_of_openr1_keep_the_answer_that_they_were_judged_by():
    rows = rows_of("openr1_traces")
    assert rows["answer"][:3] == ["42", "4", r"\frac{1}{2}"]
    raw = {
        "generations": ["a", "b", "c"],
        "is_reasoning_complete": [True, None, True],
        "correctness_llama": [None, True],
    }
    assert openr1_traces.right(raw, "correctness_llama") == openr1_traces.right(raw, "correctness_math_verify") == []


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = model_loading.load_tokenizer("recipes/configs/sft/tiny-base")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    return tokenizer


@pytest.mark.parametrize(
    "file, counts, words",
    [
        ("ultrafeedback_binarized", (6, 2, 1), ["2 have no two answers", "1 have equal answers"]),
        ("hh_rlhf", (8, 4, 1), ["3 have no prompt that both share (rows 2, 5, 7)", "1 have equal answers"]),
        (
            "kto_mix_14k",
            (7, 4, 0),
            ["2 have no answer of the other label to their prompt (rows 3, 5)", "1 have no label"],
        ),
    ],
)
def test_pairs_that_cannot_be_used_are_counted(tokenizer, capsys, file, counts, words):
    usable, found = dataset_rows.usable_pairs(rows_of(file), tokenizer, None)
    assert (found["rows"], found["broken"], found["equal"]) == counts and len(usable) == counts[0] - sum(counts[1:])
    out = capsys.readouterr().out
    assert all(word in out for word in words), out


def test_demonstrations_that_cannot_be_used_are_counted(tokenizer, capsys):
    usable, found = dataset_rows.usable_demonstrations(rows_of("openthoughts"), tokenizer, None)
    assert (found["rows"], found["broken"], len(usable)) == (9, 5, 4)
    assert "4 have no thoughts in one <think> block before an answer (rows 3, 4, 5, 6)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, hub, wants",
    [
        ("ultrafeedback_binarized", "HuggingFaceH4/ultrafeedback_binarized", (None, "train_prefs")),
        ("hh_rlhf", "Anthropic/hh-rlhf", (None, "train")),
        ("kto_mix_14k", "trl-lib/kto-mix-14k", (None, "train")),
        ("mixture_of_thoughts", "open-r1/Mixture-of-Thoughts", ("all", "train")),
        ("openr1_traces", "open-r1/OpenR1-Math-220k", ("default", "train")),
        ("openthoughts", "open-thoughts/OpenThoughts-114k", ("default", "train")),
        ("s1k_1_1", "simplescaling/s1K-1.1", (None, "train")),
    ],
)
def test_each_set_is_asked_for_by_its_own_name(monkeypatch, name, hub, wants):
    asked = []

    def load_dataset(*names, split, revision=None):
        asked.append((*names, split))
        return Dataset.from_list([json.loads(line) for line in (SETS / f"{name}.jsonl").read_text().splitlines()[:2]])

    monkeypatch.setattr(_source, "load_dataset", load_dataset)
    data.load(name)
    data.load(name, config="other")
    assert asked == [(hub, *wants), (hub, "other", wants[1])]


def test_the_held_out_pairs_of_ultrafeedback_have_two_names(monkeypatch):
    asked = []
    monkeypatch.setattr(_source, "load_dataset", lambda *_, split: asked.append(split) or Dataset.from_list([PAIR]))
    for split in ("test", "test_prefs"):
        data.load("ultrafeedback_binarized", split)
    assert asked == ["test_prefs", "test_prefs"]
    with pytest.raises(ValueError, match="split 'test_sft' of dataset 'ultrafeedback_binarized' is unknown"):
        data.load("ultrafeedback_binarized", "test_sft")


USER, BLUE, GREEN = (
    {"role": role, "content": text}
    for role, text in (("user", "What color is the sky?"), ("assistant", "Blue."), ("assistant", "Green."))
)
PAIR = {"prompt": USER["content"], "chosen": [USER, BLUE], "rejected": [USER, GREEN]}
WANT = {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]}
HH = "\n\nHuman: What color is the sky?\n\nAssistant:"


@pytest.mark.parametrize(
    "raw, columns",
    [
        ({"q": USER["content"], "a": "Blue.", "b": "Green."}, {"prompt": "q", "chosen": "a", "rejected": "b"}),
        ({"q": [USER], "a": [BLUE], "b": [GREEN]}, {"prompt": "q", "chosen": "a", "rejected": "b"}),
        ({"a": [USER, BLUE], "b": [USER, GREEN]}, {"chosen": "a", "rejected": "b"}),
        ({"q": HH, "a": "Blue.", "b": "Green."}, {"prompt": "q", "chosen": "a", "rejected": "b"}),
        ({"a": HH + " Blue.", "b": HH + " Green."}, {"chosen": "a", "rejected": "b"}),
        ({"x": {"q": [USER], "a": [BLUE], "b": [GREEN]}}, {"prompt": "x.q", "chosen": "x.a", "rejected": "x.b"}),
    ],
)
def test_explicit_and_implicit_prompts_by_other_names(tmp_path, raw, columns):
    (tmp_path / "rows.jsonl").write_text(json.dumps(raw) + "\n")
    rows, how = data.read(str(tmp_path / "rows.jsonl"), template=None, columns=columns)
    assert {c: rows[0][c] for c in WANT} == WANT and how.startswith("preferences")


@pytest.mark.parametrize("labels", [[1, 0], ["true", "false"], [None, None]])
def test_only_a_truth_value_is_a_label(tmp_path, labels):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": "q", "completion": "a", "label": label}) + "\n" for label in labels))
    rows = data.load("kto_mix_14k", path=str(path), template=None)
    assert lacks(rows) == [kto_mix_14k.NO_LABEL] * 2


def test_a_line_that_is_no_row_is_not_an_answer(tmp_path):
    path, row = tmp_path / "rows.jsonl", {"prompt": "q", "completion": "a", "label": True}
    path.write_text(json.dumps(row) + "\n{broken\n" + json.dumps(row | {"completion": "b", "label": False}) + "\n")
    rows = data.load("kto_mix_14k", path=str(path), template=None)
    assert [bool(lack) for lack in lacks(rows)] == [True, False] and "isn't JSON" in lacks(rows)[0]
    assert (said(rows[1]["chosen"]), said(rows[1]["rejected"])) == ("a", "b")


def test_a_file_of_answers_with_labels_is_recognised(tmp_path):
    path = tmp_path / "rows.jsonl"
    ones = [{"q": "q", "a": answer, "good": label} for answer, label in (("a", True), ("b", False), ("c", True))]
    path.write_text("".join(json.dumps(one) + "\n" for one in ones))
    rows, how = data.read(str(path), template=None, columns={"prompt": "q", "completion": "a", "label": "good"})
    assert how.startswith("kto_mix_14k") and [bool(lack) for lack in lacks(rows)] == [False, True]
    assert (said(rows[0]["chosen"]), said(rows[0]["rejected"])) == ("a", "b")
    path.write_text("".join(json.dumps({"prompt": "q", "completion": "a", "label": "math"}) + "\n" for _ in range(2)))
    rows, how = data.read(str(path), template=None)
    assert how.startswith("demonstrations") and rows["label"] == ["math"] * 2
