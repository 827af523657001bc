"""A user's own rows, as they are: which columns mean what, what stays, what is said of rows that can't be used."""

import json
import re

import pytest
from datasets import Dataset

import data
import rewards
from recipes.shared import dataset_rows, model_loading

TINY = "recipes/configs/sft/tiny-base"
ASK = {"role": "user", "content": "What is 6 * 7?"}
BRIEF = {"role": "system", "content": "Answer with one number."}
EARLIER = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! What shall we count?"}]
REPLY = {"role": "assistant", "content": "It is 42."}


@pytest.fixture(scope="module")
def tokenizer():
    return model_loading.load_tokenizer(TINY)


def jsonl(folder, *rows) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    "raw",
    [
        {"question": "What is 6 * 7?", "answer": "42"},
        {"problem": "What is 6 * 7?", "answer": 42},
        {"prompt": "What is 6 * 7?", "answer": "42"},
        {"prompt": [ASK], "answer": 42.0},
        {"instruction": "What is 6 * 7?", "gold": "42"},
        {"query": "What is 6 * 7?", "target": "42"},
        {"question": "What is 6 * 7?", "solution": "42"},
        {"question": "What is 6 * 7?", "answer": ["42"]},
        {"data_source": "me", "prompt": [ASK], "reward_model": {"style": "rule", "ground_truth": "42"}},
        {"messages": [ASK], "answer": "42"},
        {"conversations": [{"from": "human", "value": "What is 6 * 7?"}], "answer": "42"},
    ],
    ids=lambda raw: "+".join(raw),
)
def test_prompts_with_answers_are_found_by_the_names_of_their_columns(tmp_path, raw):
    rows, how = data.read(jsonl(tmp_path, raw), template=None)
    assert rows[0]["prompt"] == [ASK] and rows[0]["answer"] == "42"
    assert how.startswith("prompts with answers (")
    assert rewards.load("math_answer")(["<answer>42</answer>"], answer=rows["answer"]) == [1.0]


def test_columns_says_which_is_which_and_the_others_stay(tmp_path):
    raw = {"frage": "What is 6 * 7?", "meta": {"loesung": "42", "from": "me"}, "words": 3, "answer": "a note"}
    path = jsonl(tmp_path, raw)
    columns = {"prompt": "frage", "answer": "meta.loesung", "length": "words"}
    rows, how = data.read(path, template=None, columns=columns)
    assert rows[0] == {"prompt": [ASK], "answer": "42", "length": 3, "meta": raw["meta"]}
    assert how == "prompts with answers (prompt: prompt, answer: answer), and with it length, meta"


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, suffix):
    raw = [
        {"question": "How many agents?", "answer": "007", "words": 1},
        {"question": "None?", "answer": "NA", "words": 2},
    ]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(raw))
    else:
        getattr(Dataset.from_list(raw), f"to_{suffix}")(path)
    rows = data.load(str(path), template="plain")
    want = [("How many agents?\n", "007", 1), ("None?\n", "NA", 2)]
    assert [(row["prompt"], row["answer"], row["words"]) for row in rows] == want


def test_a_worked_solution_with_its_hashes_is_still_gsm8ks(tmp_path):
    rows, how = data.read(jsonl(tmp_path, {"question": "What is 6 * 7?", "answer": "6 sevens.\n#### 42", "words": 3}))
    assert rows[0]["answer"] == "42" and rows[0]["words"] == 3 and how == "gsm8k, and with it words"


@pytest.mark.parametrize(
    "raw, prompt",
    [
        ({"prompt": "What is 6 * 7?", "completion": "It is 42."}, [ASK]),
        ({"instruction": "What is 6 * 7?", "output": "It is 42."}, [ASK]),
        ({"question": "What is 6 * 7?", "response": "It is 42."}, [ASK]),
        ({"prompt": [BRIEF, *EARLIER, ASK], "completion": [REPLY]}, [BRIEF, *EARLIER, ASK]),
        ({"messages": [BRIEF, *EARLIER, ASK, REPLY]}, [BRIEF, *EARLIER, ASK]),
        ({"system": BRIEF["content"], "prompt": "What is 6 * 7?", "completion": "It is 42."}, [BRIEF, ASK]),
    ],
)
def test_demonstrations_are_taken_as_they_are(tmp_path, tokenizer, raw, prompt):
    rows, how = data.read(jsonl(tmp_path, raw), template=None)
    assert rows[0]["prompt"] == prompt and rows[0]["completion"] == [REPLY] and how.startswith("demonstrations (")
    assert data.load(jsonl(tmp_path, raw), template="chat")[0]["prompt"][-1] == ASK


def test_alpacas_input_belongs_to_its_instruction(tmp_path):
    raw = {"instruction": "Double it.", "input": "21", "output": "42"}
    assert data.load(jsonl(tmp_path, raw), template="plain")[0]["prompt"] == "Double it.\n\n21\n"


@pytest.mark.parametrize("template", ["chat", "boxed"])
def test_a_system_message_of_ones_own_is_never_replaced(tmp_path, template):
    thoughts = {"role": "assistant", "content": "<think>6*7</think>42"}
    for raw in ({"messages": [BRIEF, ASK, REPLY]}, {"messages": [BRIEF, ASK, thoughts]}):
        assert data.load(jsonl(tmp_path, raw), template=template)[0]["prompt"] == [BRIEF, ASK]


@pytest.mark.parametrize("before", [[BRIEF], EARLIER])
@pytest.mark.parametrize("raw", [{"completion": [REPLY]}, {"chosen": [REPLY], "rejected": [EARLIER[1]]}])
def test_a_template_of_text_refuses_what_it_would_drop(tmp_path, before, raw):
    path = jsonl(tmp_path, {"prompt": [*before, ASK]} | raw)
    with pytest.raises(ValueError, match=r"template 'plain' makes text of one question, .* template: null"):
        data.load(path, template="plain")


def test_rows_left_out_are_counted_under_their_true_reason(tmp_path, tokenizer, capsys):
    good = {"question": "What is 1 + 1?", "answer": "2"}
    path = jsonl(
        tmp_path, good, {"question": " ", "answer": "2"}, {"question": "q", "answer": None}, good | {"answer": "("}
    )
    rows, counts = dataset_rows.usable_rows(
        data.load(path, template="plain"), [rewards.load("math_answer")], tokenizer, None
    )
    assert (
        counts.reasons
        == "1 have no prompt (row 1), 1 have no answer (row 2), 1 can't be graded by math_answer (broken gold) (row 3)"
        and len(rows) == 1
    )
    assert counts == {"rows": 4, "ungradable": 3, "too_long": 0} and "unreadable" not in rows.column_names
    shown = [{"prompt": "q", "completion": c} for c in ("It is 2.", None, " ")]
    path = jsonl(tmp_path, *shown, {"prompt": None, "completion": "2"})
    rows, counts = dataset_rows.usable_demonstrations(data.load(path, template="plain"), tokenizer, 1000)
    assert counts.reasons == "2 have no completion (rows 1, 2), 1 have no prompt (row 3)" and counts["broken"] == 3
    traces = ["<think>1+1</think>2", "<think>so 2", "<think>2</think>2"]
    path = jsonl(tmp_path, *({"prompt": "q", "completion": c} for c in traces))
    _, counts = dataset_rows.usable_demonstrations(data.load(path, template="plain"), tokenizer, 1000)
    assert counts.reasons == "1 have no thoughts in one <think> block before an answer (row 1)"


@pytest.mark.parametrize(
    "raw, columns, words",
    [
        ({"frage": "What is 6 * 7?", "id": "a"}, None, ["columns frage, id", "columns: {prompt: frage}"]),
        ({"completion": "a long answer", "gold": "1", "right": True}, None, ["columns: {prompt: <yours>}"]),
        ({"my_question": "6?", "notes": "a long note about it"}, None, ["columns: {prompt: my_question}"]),
        (
            {"frage": "q", "gold": "1"},
            {"prompt": "fragen"},
            ["no column 'fragen'", "did you mean 'frage'", "frage, gold"],
        ),
        (
            {"q": "q", "meta": {"gold": "1"}},
            {"answer": "meta.golds"},
            ["did you mean 'meta.gold'?", "q, meta, meta.gold"],
        ),
    ],
)
def test_a_missing_column_lists_those_that_are_there_and_the_likely_one(tmp_path, raw, columns, words):
    with pytest.raises(ValueError) as refused:
        data.load(jsonl(tmp_path, raw), columns=columns)
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_column_that_a_reward_needs_is_asked_for(tmp_path, tokenizer):
    rows = data.load(jsonl(tmp_path, {"question": "q", "answers": "1"}), template="plain")
    with pytest.raises(ValueError, match=re.escape("columns: {answer: answers}")):
        dataset_rows.usable_rows(rows, [rewards.load("math_answer")], tokenizer, None)
    rows = data.load(jsonl(tmp_path, {"question": "q", "answer": "1", "completions": "x"}), template="plain")
    with pytest.raises(ValueError, match=r"columns: \{my_completions: completions\}"):
        dataset_rows.usable_rows(rows, [rewards.load("math_answer")], tokenizer, None)
    with pytest.raises(ValueError, match=r"columns: \{my_image: image\}"):
        rows = data.load(jsonl(tmp_path, {"question": "q", "answer": "1", "image": None}), template="plain")
        dataset_rows.usable_rows(rows, [rewards.load("math_answer")], tokenizer, None)


def test_columns_are_for_what_is_read_as_it_is():
    with pytest.raises(ValueError, match=r"'arithmetic' is data/arithmetic\.py"):
        data.check("arithmetic", "train", {"answer": "gold"})


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.jsonl", '{"question": "q", "answer": "1"\n{not json\n', "can't be read as .jsonl"),
        ("b.csv", "question,answer\nq,1,2\n", "more cells than its header"),
        ("c.jsonl", "", "the file is empty"),
        ("d.jsonl", "\n\n", "no rows"),
        ("e.json", '{"question": "q", "answer": "1"', "can't be read as .json"),
        ("f.csv", 'question,answer\n"q,1\n', "can't be read as .csv"),
        ("g.csv", "question,answer\n", "no rows"),
        ("h.parquet", "question,answer\nq,1\n", "can't be read as .parquet"),
        ("i.jsonl", "[1, 2]\n", "none of them is called prompt"),
        ("j.jsonl", b'{"question": "\xff", "answer": "1"}\n', "can't be read as .jsonl"),
    ],
)
def test_malformed_files_are_refused_in_a_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words) as refused:
        data.load(str(path))
    assert str(path) in str(refused.value)
