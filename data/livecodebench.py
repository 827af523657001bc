"""LiveCodeBench, lite (arXiv 2403.07974): problems of contests by date, to evaluate with, on stdin or as a function. `cc`.

Not for training: it is a test set. The split `test` has all 1,055 (4.5 GB), release_v1 to release_v6 those up to a release, v1
to v6 those that it added (v6: 175, 134 MB); `since` and `until` leave those of some dates. Raw row, all text:
{"question_content", "starter_code", "contest_date", "public_test_cases": JSON [{"input", "output", "testtype"}],
"private_test_cases", "metadata": JSON {"func_name"?}, ...}. The private tests are JSON, or base64 of zlib of a pickle of JSON,
which is never unpickled: that would run what is in it. Compared as by the set's own checker, exactly, 6 seconds a test. Its
ERRATA.md names problems with several answers, or with wrong tests.
"""

import base64
import pickletools
import zlib

from datasets import Dataset

from data import _programs, _rows

HUB = "livecodebench/code_generation_lite"
REVISION = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
BY_RELEASE = ["test.jsonl", *(f"test{n}.jsonl" for n in range(2, 7))]
FILES = {
    "test": BY_RELEASE,
    **{f"release_v{n}": BY_RELEASE[:n] for n in range(1, 7)},
    **{f"v{n}": BY_RELEASE[n - 1 : n] for n in range(1, 7)},
}
COLUMNS = ("question_content", "starter_code", "public_test_cases", "private_test_cases", "metadata")
SPLITS = tuple(FILES)
GIVES = _rows.PROGRAM
TIME_LIMIT_S = 6.0
MAX_TESTS = 1 << 28  # bytes of a row's tests; there are rows of more than 100 MB
# of a pickle that is one text
TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
AROUND = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}


def select(raw: Dataset, *, since: str | None = None, until: str | None = None) -> Dataset:
    """The problems of contests from one date on and up to another, such as 2024-08-01: that day's too."""
    if since is None and until is None:
        return raw
    first, last = str(since or ""), str(until or "9")
    return raw.filter(lambda date: first <= str(date)[:10] <= last, input_columns="contest_date")


def to_row(raw: dict) -> dict:
    """The prompt shows the public tests where the statement doesn't. Raises Unreadable where the private ones can't be."""
    public = _programs.loads(raw["public_test_cases"] or "[]")
    cases = public + private(raw["private_test_cases"])
    function = _programs.loads(raw["metadata"] or "{}").get("func_name")
    kinds = {case["testtype"] for case in cases}
    tests = None
    if kinds == {"stdin"}:
        tests = _programs.stdin([(c["input"], c["output"]) for c in cases], TIME_LIMIT_S)
    elif kinds == {"functional"} and function:
        called = [(arguments(case["input"]), _programs.loads(case["output"])) for case in cases]
        tests = _programs.calls(function, raw["starter_code"], called, TIME_LIMIT_S)
    examples = [(case["input"], case["output"]) for case in public]
    name = function if kinds == {"functional"} else None
    question = _programs.question(
        raw["question_content"], starter=raw["starter_code"], function=name, examples=examples
    )
    return _rows.program(question, tests)


def arguments(text: str) -> list:
    """One value of JSON a line."""
    return [_programs.loads(line) for line in text.strip().split("\n")]


def private(cell: str) -> list[dict]:
    """The private tests. Raises Unreadable where they are in neither form."""
    if cell.lstrip().startswith("["):
        return _programs.loads(cell)
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(base64.b64decode(cell, validate=True), MAX_TESTS)
    except (ValueError, zlib.error) as error:
        raise _rows.Unreadable(f"private tests that can't be read ({error})") from error
    if not inflate.eof or inflate.unused_data:
        raise _rows.Unreadable(f"private tests that can't be read (not one text of up to {MAX_TESTS >> 20} MB)")
    return _programs.loads(pickled_text(data))


def pickled_text(data: bytes) -> str:
    """The text that a pickle holds, by reading its instructions and following none. Raises Unreadable where it holds more."""
    texts, end = [], 0
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name in TEXTS:
            texts.append(argument)
        elif opcode.name not in AROUND:
            raise _rows.Unreadable(
                f"private tests that can't be read (a pickle with {opcode.name}, which is more than a text)"
            )
        end = position + 1
    if len(texts) != 1 or end != len(data):
        raise _rows.Unreadable("private tests that can't be read (a pickle of more or less than one text)")
    return texts[0]
