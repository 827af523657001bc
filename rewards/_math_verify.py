"""math-verify in a process of its own: limited memory, killed at a deadline, started at first use.

Threads and signals can't stop a symbolic parser in one long C call, and SIGALRM handlers fail off the main thread: only
killing the process does. The worker dies with its parent: its standard input closes, and an alarm ends a running request.
"""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
from functools import lru_cache

DEADLINE_S = 3.0
START_S = 60.0
MEMORY_MB = 2048

_worker: subprocess.Popen | None = None


@lru_cache(maxsize=100_000)
def equal(gold: str, answer: str) -> bool:
    """Whether math-verify finds `answer` equal to `gold`; False when it fails or takes longer than DEADLINE_S."""
    return bool(_ask({"gold": gold, "answer": answer}))


def parses(gold: str) -> bool:
    """Whether math-verify can read `gold` as mathematics."""
    return bool(_ask({"gold": gold}))


def _ask(request: dict) -> bool | None:
    worker = _running()
    with contextlib.suppress(BrokenPipeError):  # it died just now: no reply comes either
        worker.stdin.write(json.dumps(request).encode() + b"\n")
        worker.stdin.flush()
    reply = _reply(worker, DEADLINE_S)
    if reply is None:
        _stop()
    return reply


def _running() -> subprocess.Popen:
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = subprocess.Popen(
            [
                sys.executable,
                "-I",
                __file__,
            ],  # isolated: no script folder, no PYTHONPATH, and no secret in its environment
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", "")},
        )
        if not _reply(_worker, START_S):
            _stop()
            raise RuntimeError(
                f"the math-verify worker did not start within {START_S:.0f} s: is math-verify installed?"
            )
    return _worker


def _reply(worker: subprocess.Popen, seconds: float) -> bool | None:
    """One JSON line from the worker; None at the deadline or when it died."""
    ready, _, _ = select.select([worker.stdout], [], [], seconds)
    line = worker.stdout.readline() if ready else b""
    return json.loads(line) if line else None


@atexit.register
def _stop() -> None:
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker.wait()
        with contextlib.suppress(BrokenPipeError):
            _worker.stdin.close()
        _worker.stdout.close()
        _worker = None


def _serve() -> None:
    import resource
    import signal

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB << 20, MEMORY_MB << 20))
    settings = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig(), StringExtractionConfig())

    def read(text: str) -> list:
        # its string fallback is off: it compares letters where mathematics was meant
        return parse(
            f"\\boxed{{{text}}}", settings, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
        )

    print("true", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(int(2 * DEADLINE_S))  # the default action ends the process, should the parent be gone by then
        try:
            gold = read(request["gold"])
            if "answer" in request:
                answer = read(request["answer"])
                result = verify(gold, answer, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
            else:
                result = bool(gold)
        except (Exception, RecursionError, MemoryError):  # whatever hostile text does to a parser, it is not an answer
            result = False
        signal.alarm(0)
        print(json.dumps(bool(result)), flush=True)


if __name__ == "__main__":
    _serve()
