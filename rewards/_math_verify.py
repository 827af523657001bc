"""math-verify in processes that can be killed: a small server that imports it once and forks one worker a core.

Threads and signals can't stop a symbolic parser inside one long C call, and SIGALRM handlers fail off the main thread; only
killing the process does. The server never parses anything itself: it hands each pair to a worker, kills the worker at the
deadline and forks the next one, which costs milliseconds and no new import. It is a fresh interpreter, so no memory, open
file or secret of the trainer is in it. Workers run under an address-space limit, and die with the server; the server ends
when its standard input closes or its parent is gone, a SIGKILL included.

What a gate can tell to be hopeless (towers of powers, sums, prose) is refused before it gets here: see `refusal`.
"""

import atexit
import contextlib
import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time

DEADLINE_S = 2.0  # for one pair; an honest one takes 0.01 to 0.1 s
START_S = 60.0  # importing math-verify on a busy machine
MEMORY_MB = 1024  # address space of a worker; its imports take a third of it
REQUESTS = 2000  # after which a worker is replaced: sympy's caches grow
MAX_LENGTH = 300  # characters
MAX_DEPTH = 12
HEAVY = re.compile(r"\\(?:sum|prod|o?i*nt|lim|det|partial|begin|underbrace|overset|stackrel)(?![a-zA-Z])")
TOWER = re.compile(
    r"\^\s*(?:\{[^{}]*[\^!]|\{[^{}]*\{[^{}]*[\^!]|[^{\s]\s*\^|-?[0-9]{3}|\{[^{}]*[0-9]{3}|\([^()]*[\^!])"
)
EXPONENT = re.compile(r"\^\s*\{?\s*-?([0-9]{1,2})")
MAX_POWER = 1000  # of the product of all exponents: sympy expands brackets
FACTORIAL = re.compile(r"[0-9]{3,}\s*!|[)\]}!]\s*!")
PROSE = re.compile(r"(?<![\\a-zA-Z])(?!sqrt|infty|theta)[a-zA-Z]{4,}|__|[\"'`@#?]")
COMMAND = re.compile(r"\\([a-zA-Z]+|.)", re.S)
# What math-verify reads as it is meant. It drops any other command, and then scores a number beside it: 6 \Rightarrow 5.
COMMANDS = frozenset(
    r"""frac sqrt binom pi infty cup le ge ne pm mp cdot times div lfloor rfloor lceil rceil { }
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp
    alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega
    Gamma Delta Theta Lambda Sigma Phi Psi Omega""".split()  # noqa: SIM905
)
# understood in these forms only
INFIX = re.compile(
    r"\{[^{}]*[^{}\s]\s*\\(?:choose|over)(?![a-zA-Z])\s*[^{}\s][^{}]*\}|\^\\circ"
    r"|^\\mathbb\{R\}\s*\\setminus(?=\s*(?:\\\{[^{}]*\\\}|[\[(][^()\[\]]*[\])])$)"
)


def refusal(text: str) -> str | None:
    """Why a text is not given to math-verify, or None when it may be."""
    if len(text) > MAX_LENGTH:
        return f"{len(text)} characters"
    depth = deepest = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        deepest = max(deepest, depth)
    if depth or deepest > MAX_DEPTH:
        return "brackets open or nested too deep"
    for pattern, what in ((HEAVY, "a costly command"), (TOWER, "a large power"), (FACTORIAL, "a large factorial")):
        if found := pattern.search(text):
            return f"{what}: {found[0]}"
    if unknown := next((c for c in COMMAND.findall(INFIX.sub(" ", text)) if c not in COMMANDS), None):
        return f"a command it does not know: {unknown[:20]}"
    exponents = [int(e) for e in EXPONENT.findall(text)]
    if max(exponents, default=0) > 30 or math.prod(max(1, e) for e in exponents) > MAX_POWER:
        return "large powers"
    if re.search("[0-9]{40}", text):
        return "a number of over 40 digits"
    if (found := PROSE.search(text)) or not text.isascii():
        return f"words or signs that are no mathematics{': ' + found[0][:20] if found else ''}"
    return None


def equal(pairs: list[tuple[str, str]]) -> list[bool | None]:
    """For each (gold, answer) whether math-verify finds them equal; None where it was killed over time or memory."""
    return _ask([[gold, answer] for gold, answer in pairs])


def parses(gold: str) -> bool:
    """Whether math-verify can read `gold` as mathematics."""
    return bool(_ask([[gold]])[0])


def workers_here() -> int:
    """The cores this process may use, shared with the other ranks of this machine."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1)))


# --- the trainer's side

_server: subprocess.Popen | None = None
_owner = _workers = 0
_lock = threading.Lock()


def _unlock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)  # a fork must not wait for a thread that it doesn't have


def start(workers: int | None = None) -> None:
    """Start the server unless it runs. Raises RuntimeError when math-verify can't be imported there."""
    global _server, _owner, _workers
    if _server is not None and _owner == os.getpid() and _server.poll() is None:
        return
    if _server is not None and _owner == os.getpid():
        stop()
    _owner, _workers = os.getpid(), workers or workers_here()
    _server = subprocess.Popen(
        [sys.executable, "-I", __file__, str(_workers), str(_owner)],  # -I: no script folder and no PYTHONPATH
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "")},  # no secret of the trainer's
        start_new_session=True,  # Ctrl-C is for the trainer
    )
    if not _reply(START_S):
        stop()
        raise RuntimeError(f"the math-verify server did not start within {START_S:.0f} s: is math-verify installed?")


@atexit.register
def stop() -> None:
    """End the server and its workers."""
    global _server
    server, _server = _server, None
    if server is not None and _owner == os.getpid():  # a fork of the trainer leaves its parent's server alone
        server.kill()
        server.wait()
        with contextlib.suppress(BrokenPipeError):
            server.stdin.close()
        server.stdout.close()


def _ask(requests: list[list[str]]) -> list[bool | None]:
    if not requests:
        return []
    with _lock:  # one conversation at a time
        return _converse(requests)


def _converse(requests: list[list[str]]) -> list[bool | None]:
    for _ in range(2):  # a server that died meanwhile is replaced once
        start()
        with contextlib.suppress(BrokenPipeError):
            _server.stdin.write(json.dumps(requests).encode() + b"\n")
            _server.stdin.flush()
            reply = _reply(START_S + DEADLINE_S * (len(requests) // _workers + 1))
            if reply is not None:
                return reply
        stop()
    raise RuntimeError("the math-verify server died twice on one batch")


def _reply(seconds: float):
    """One JSON line from the server; None at the deadline or when it died."""
    ready, _, _ = select.select([_server.stdout], [], [], seconds)
    line = _server.stdout.readline() if ready else b""
    return json.loads(line) if line else None


# --- the server's side: one thread, nothing but standard modules and math-verify


class Worker:
    """A forked process that answers one request at a time over two pipes."""

    def __init__(self, others: list["Worker"]):
        inbox, self.to = os.pipe()
        self.back, outbox = os.pipe()
        server = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for other in others:
                    os.close(other.to), os.close(other.back)
                os.close(self.to), os.close(self.back)
                _work(inbox, outbox, server)
            finally:
                os._exit(0)
        os.close(inbox), os.close(outbox)
        self.task: int | None = None
        self.until, self.served = 0.0, 0

    def send(self, task: int, request: list[str]) -> None:
        self.task, self.until, self.served = task, time.monotonic() + DEADLINE_S, self.served + 1
        with contextlib.suppress(BrokenPipeError):
            os.write(self.to, json.dumps(request).encode() + b"\n")  # shorter than a pipe's buffer: the gate sees to it

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.to), os.close(self.back)


def _serve(count: int, parent: int) -> None:
    import resource

    import math_verify  # noqa: F401  before any fork, so that no worker imports it

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB << 20, MEMORY_MB << 20))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    workers: list[Worker] = []
    for _ in range(count):
        workers.append(Worker(workers))
    os.write(1, b"true\n")
    buffer = b""
    while True:
        while b"\n" not in buffer:
            # PDEATHSIG would follow the thread that started us, and an inherited copy of the pipe hides its end
            if os.getppid() != parent:
                return
            if select.select([0], [], [], 0.5)[0]:
                chunk = os.read(0, 1 << 16)
                if not chunk:
                    return
                buffer += chunk
        line, _, buffer = buffer.partition(b"\n")
        results = _spread(json.loads(line), workers, parent)
        if results is None:
            return
        reply = memoryview(json.dumps(results).encode() + b"\n")
        while reply:
            reply = reply[os.write(1, reply) :]


def _spread(requests: list[list[str]], workers: list[Worker], parent: int) -> list[bool | None] | None:
    """Every request's result, in parallel; None when the parent is gone."""
    results: list[bool | None] = [None] * len(requests)
    waiting, lost = list(range(len(requests)))[::-1], set()
    while waiting or any(w.task is not None for w in workers):
        for i, worker in enumerate(workers):
            if worker.task is None and waiting:
                if worker.served >= REQUESTS:
                    worker.end()
                    workers[i] = worker = Worker(workers[:i] + workers[i + 1 :])
                worker.send(task := waiting.pop(), requests[task])
        if os.getppid() != parent:
            return None
        busy = [w for w in workers if w.task is not None]
        wait = max(0.0, min(min(w.until for w in busy) - time.monotonic(), 0.5))
        ready = select.select([w.back for w in busy], [], [], wait)[0]
        for i, worker in enumerate(workers):
            if worker.task is None:
                continue
            reply = os.read(worker.back, 16) if worker.back in ready else b""
            if reply in (b"1", b"0"):
                results[worker.task], worker.task = reply == b"1", None
            elif worker.back in ready or time.monotonic() > worker.until:  # it died, ran out of memory, or out of time
                if worker.back in ready and worker.task not in lost:  # dying may not have been this pair's doing
                    lost.add(worker.task)
                    waiting.append(worker.task)
                worker.end()
                workers[i] = Worker(workers[:i] + workers[i + 1 :])
    return results


def _work(inbox: int, outbox: int, server: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != server:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    settings = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

    def read(text: str) -> list:
        # its string fallback is off: it compares letters where mathematics was meant
        return parse(
            f"\\boxed{{{text}}}", settings, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
        )

    for line in os.fdopen(inbox, "rb"):
        request = json.loads(line)
        try:
            gold, *answer = map(read, request)
            result = bool(gold) and (
                not answer
                or verify(gold, answer[0], allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
            )
        except MemoryError:
            return
        except (Exception, RecursionError):  # whatever hostile text does to a parser, it is not an answer
            result = False
        os.write(outbox, b"1" if result else b"0")


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
