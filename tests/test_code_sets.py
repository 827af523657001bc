"""The public sets of programming problems: rows in their own schemas become prompts and tests that their solutions pass."""

import base64
import json
import os
import pickle
import zlib

import pytest
from conftest import REPO
from datasets import load_dataset

import data
from data import _programs, livecodebench
from rewards.code_tests import code_tests

CASES = REPO / "tests/cases/sets"
SPLIT = {"leetcode": "train", "verifiable_coding": "train", "apps": "train", "taco": "train", "livecodebench": "test"}
HIDDEN = "90210"  # in every test that no statement shows
# rows without usable tests, and what is said of them
UNREADABLE = {
    "leetcode": {5: "no tests"},
    "verifiable_coding": dict.fromkeys((3, 4, 5, 6), "no tests"),
    "apps": {7: "no tests", 8: "no tests", 9: "no tests", 10: "Unterminated string"},
    "taco": {5: "no tests", 6: "no tests"},
    "livecodebench": {4: "no tests", 5: "no tests"},
}
# LiveCodeBench has no solutions
WRITTEN = [
    "for _ in range(int(input())):\n    print('YES' if input()[0] == 'a' else 'NO')",
    "from decimal import Decimal\nprint(sum(map(Decimal, input().split())))",
    "class Solution:\n    def zigzag(self, grid):\n        return sum(grid, [])[::2]",
    "def repeat(word, times):\n    return word * times",
]


def path_of(name: str) -> str:
    return str(CASES / f"{name}.jsonl")


def read(name: str, path: str | None = None, **options):
    return data.load(name, SPLIT[name], path=path or path_of(name), template=None, **options)


def raw_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def write(folder, rows: list[dict]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def fenced(*programs: str) -> list[str]:
    return [f"```python\n{program}\n```" for program in programs]


def asked(row: dict) -> str:
    return row["prompt"][0]["content"]


@pytest.mark.sandbox
@pytest.mark.parametrize("name", SPLIT)
def test_the_sets_own_solutions_earn_1_and_nothing_else_does(name):
    raw, rows = raw_of(name), read(name)
    assert len(rows) == len(raw) >= 5
    rows = [(r, row) for i, (r, row) in enumerate(zip(raw, rows, strict=True)) if i not in UNREADABLE[name]]
    tests = [row["tests"] for _, row in rows]
    solutions = WRITTEN if name == "livecodebench" else [row["solution"] for _, row in rows]
    assert code_tests(fenced(*solutions), tests=tests) == [1.0] * len(rows)
    others = fenced(*solutions[1:], solutions[0])
    assert max(code_tests(others, tests=tests)) < 1
    assert code_tests(others, tests=tests, binary=True) == [0.0] * len(rows)
    starters = [r.get("starter_code") or (r.get("meta") or {}).get("lang_code") or "" for r, _ in rows]
    for written in (fenced(*starters), fenced(*(s + " pass" for s in starters)), [asked(row) for _, row in rows]):
        assert code_tests(written, tests=tests) == [0.0] * len(rows)


@pytest.mark.parametrize("name", SPLIT)
def test_a_row_without_usable_tests_stays_and_says_why(name):
    rows = read(name)
    for i, (tests, why) in enumerate(zip(rows["tests"], rows["unreadable"], strict=True)):
        reason = UNREADABLE[name].get(i)
        assert (tests is None, why is None) == (reason is not None, reason is None), (i, why)
        assert reason is None or reason in why


@pytest.mark.parametrize("name", SPLIT)
def test_a_prompt_shows_the_problem_and_the_starter_code_but_no_hidden_test(name):
    hidden = 0
    for raw, row in zip(raw_of(name), read(name), strict=True):
        if row["tests"] is None:
            continue
        question = asked(row)
        statement = raw.get("question") or raw.get("problem_description") or raw.get("problem_statement")
        statement = statement or raw.get("question_content") or raw["meta"]["question_title"]
        starter = raw.get("starter_code") or (raw.get("meta") or {}).get("lang_code") or ""
        assert question.startswith(statement.strip()[:100]) and starter.strip() in question
        assert question.endswith("Give the whole program in one ```python block.")
        assert HIDDEN not in question and "assert " not in question and "check(" not in question
        hidden += HIDDEN in row["tests"]
    assert hidden >= 2


@pytest.mark.parametrize("name", SPLIT)
def test_a_file_of_the_sets_columns_is_recognised(name):
    module = data._module(name)
    assert data._named(module.HUB) is module
    assert data.load(path_of(name), template=None)["tests"] == read(name)["tests"]
    assert set(getattr(module, "FILES", module.SPLITS)) == set(module.SPLITS)


def test_what_a_prompt_asks_for():
    _, _, evens, *_ = read("apps")
    assert asked(evens).startswith(
        "Return the even numbers of a list, in order.\n\nComplete this code:\n```python\nclass "
    )
    added = read("taco")[2]
    assert "\n\nWrite the function `add`.\n\n" in asked(added) and "stdin" not in asked(added)
    assert "Read the input from stdin and print the answer to stdout." in asked(read("apps")[0])
    shown, unshown = (asked(row) for row in read("livecodebench").select(range(2)))
    assert shown.count("bca") == 1 and "Input:\n19 23\nOutput:\n42\n" in unshown


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "name, number, program, score",
    [
        ("apps", 2, "class Solution:\n    def evens(self, nums): return nums[1]", 0.0),  # a site that wraps no value
        ("apps", 4, "def double(x): return [2 * x]", 0.0),  # and one that does
        ("apps", 3, "def ends(xs): return [min(xs), max(xs)]", 1.0),  # JSON has no tuples
        ("apps", 0, "input()\na = list(map(int, input().split()))\nprint('%.5f' % (sum(a) / len(a)))", 1.0),
        ("apps", 0, "input()\na = list(map(int, input().split()))\nprint('%.2f' % (sum(a) / len(a)))", 0.5),
        ("taco", 1, "print(f'{int(input()) ** 0.5:.6f}')", 1.0),
        ("verifiable_coding", 2, "print(f'{int(input()) / 3:.9f}')", 0.5),  # compared exactly
        ("livecodebench", 1, "print(f'{sum(map(float, input().split())):.3f}')", 1.0),
        ("livecodebench", 1, "print(sum(map(float, input().split())) + 1e-7)", 0.0),
        (
            "leetcode",
            3,
            "class Solution:\n    def lastDigits(self, base, exponent): return pow(base, exponent, 1000)",
            1.0,
        ),
        (
            "leetcode",
            3,
            "def check(candidate): pass\nclass Solution:\n    def lastDigits(self, base, exponent): pass",
            0.0,
        ),
    ],
)
def test_outputs_are_compared_as_the_set_says(name, number, program, score):
    assert code_tests(fenced(program), tests=[read(name)[number]["tests"]]) == [score]


def test_the_solution_is_the_first_in_python_3():
    assert read("apps")[0]["solution"].startswith("n = int(input())") and read("apps")[7]["solution"] is None
    assert read("verifiable_coding")[0]["solution"] == "a, b = map(int, input().split())\nprint(a + b)\n"
    assert read("leetcode")[0]["solution"] == raw_of("leetcode")[0]["completion"]


def test_variants_of_a_set(tmp_path):
    """TACO-verified has a list of solutions, the tested problems of open-r1 another name for the statement."""
    verified = [row | {"solutions": json.loads(row["solutions"]), "id": 1} for row in raw_of("taco")]
    assert read("taco", write(tmp_path, verified))[:] == read("taco")[:]
    tested = [
        {"problem" if k == "problem_statement" else k: v for k, v in r.items()} for r in raw_of("verifiable_coding")
    ]
    assert read("verifiable_coding", write(tmp_path, tested))[:] == read("verifiable_coding")[:]
    load_dataset("json", data_files=path_of("taco"), split="train").to_parquet(tmp_path / "rows.parquet")
    assert read("taco", str(tmp_path / "rows.parquet"))[:] == read("taco")[:]
    old, new = raw_of("leetcode")[:3], raw_of("leetcode")[3:]
    old, new = (read("leetcode", write(tmp_path, rows))["tests"][:] for rows in (old, new))
    assert old + new == read("leetcode")["tests"][:]


def test_options():
    assert len(read("apps", difficulty=["interview", "competition"])) == 3
    assert len(read("taco", difficulty=["MEDIUM"])) == 1
    with pytest.raises(ValueError, match=r"difficulty=\['MEDIUM'\] must be some of \['introductory'"):
        read("apps", difficulty=["MEDIUM"])
    assert len(read("livecodebench", since="2024-08-04")) == 2 and len(read("livecodebench", until="2024-08-03")) == 4
    assert len(read("livecodebench", since="2024-08-03", until="2024-12-31")) == 4
    files = livecodebench.FILES
    assert files["test"] == files["release_v6"] == ["test.jsonl", *(f"test{n}.jsonl" for n in range(2, 7))]
    assert files["release_v1"] == files["v1"] == ["test.jsonl"] and files["v6"] == ["test6.jsonl"]


class Harmful:
    """What LiveCodeBench's own reader, which unpickles, would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def encoded(pickled: bytes) -> str:
    return base64.b64encode(zlib.compress(pickled)).decode()


ONE = json.dumps([{"input": "1", "output": "1", "testtype": "stdin"}])


def test_the_text_in_a_pickle_of_any_protocol_is_read():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for text in (ONE, json.dumps(json.loads(ONE) * 4000), ONE.replace('"1"', '"é 😀"')):
            assert livecodebench.private(encoded(pickle.dumps(text, protocol))) == json.loads(text)
    assert livecodebench.private(ONE) == json.loads(ONE)


def test_private_tests_of_any_other_form_are_refused_and_never_run(tmp_path, monkeypatch):
    made = tmp_path / "made"
    harmful = [pickle.dumps(Harmful(str(made)), protocol) for protocol in (0, 2, 4)]
    pickle.loads(harmful[0])
    assert made.is_dir()  # what unpickling does
    made.rmdir()
    monkeypatch.setattr(livecodebench, "MAX_TESTS", 1 << 20)
    cells = {
        **{encoded(harmful[i]): "which is more than a text" for i in range(3)},
        encoded(pickle.dumps([ONE])): "which is more than a text",
        encoded(pickle.dumps(ONE) + pickle.dumps(ONE)): "more or less than one text",
        encoded(pickle.dumps(ONE)[:-1]): "pickle exhausted before seeing STOP",
        encoded(pickle.dumps("no JSON")): "JSONDecodeError",
        encoded(bytes(2 << 20)): "not one text of up to 1 MB",
        encoded(pickle.dumps(ONE))[:-8]: "not one text",
        base64.b64encode(zlib.compress(pickle.dumps(ONE)) + b"more").decode(): "not one text",
        base64.b64encode(pickle.dumps(ONE)).decode(): "incorrect header check",
        "!": "can't be read",
        "": "not one text",
    }
    good = raw_of("livecodebench")[1]
    rows = read("livecodebench", write(tmp_path, [good | {"private_test_cases": cell} for cell in cells] + [good]))
    for i, (reason, why, tests) in enumerate(zip(cells.values(), rows["unreadable"], rows["tests"], strict=False)):
        assert reason in why and tests is None, (i, why)
    assert rows[-1]["unreadable"] is None and rows[-1]["tests"] and not made.exists()


def test_values_are_written_as_python():
    for value, source in (
        ([1, -2.5, True, None, "a'b"], '[1, -2.5, True, None, "a\'b"]'),
        ({"a": [float("inf")], "b": float("-inf")}, "{'a': [1e999], 'b': -1e999}"),
        ({1: {}}, "{1: {}}"),
        (-(10**5000), hex(-(10**5000))),
        ([0] * 500, f"json.loads({json.dumps([0] * 500)!r})"),
    ):
        assert _programs.literal(value) == source and eval(source, {"json": json}) == value


def test_numbers_of_any_length_are_read():
    digits = "9" * 9131
    assert _programs.loads(f'{{"a": [-{digits}, 1.5]}}') == {"a": [1 - 10**9131, 1.5]}
    for refused in ("[" + "9" * 200_000 + "]", "[1", '["\\ud800", ' + digits):
        with pytest.raises(ValueError):
            _programs.loads(refused)
    with pytest.raises(ValueError, match="NaN"):
        _programs.literal(float("nan"))
    with pytest.raises(ValueError, match="surrogates"):
        _programs.stdin([("\ud800", "")], 1.0)
    assert _programs.calls("not a name", "", [([], 1)], 1.0) is None
