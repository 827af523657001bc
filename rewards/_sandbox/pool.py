"""The trainer's end of the sandbox: starts the server, hands it programs, keeps time, and reads what they write.

One thread, one loop over all workers. The time limit is wall time, kept here; what a program may use besides is set in
isolation.py. When the server or a worker dies, another server is started and the runs that were under way are repeated.
"""

import atexit
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
MAX_OUTPUT = 8 << 20  # bytes
START_S = 60.0
GRACE_S = 10.0  # for a worker to end a program that was killed
ATTEMPTS = 3


class NoIsolation(RuntimeError):
    """This machine allows none of the tiers: nothing is run."""


class SandboxDied(RuntimeError):
    """The sandbox died several times in a row while it ran the same programs."""


@dataclass
class Run:
    """One program to run: kind "stdin" (data is its input) or "assert" (data is the tests, as JSON)."""

    kind: str
    code: str
    data: str
    limit_s: float  # of wall time; for asserts, for the module to load and for each assert
    count: int = 1  # asserts in it
    prelude: str = ""  # run before the code


@dataclass
class Outcome:
    """why: ended, killed at the time limit ("time"), for too much "output" or "memory"."""

    why: str
    code: int
    output: bytes


# yields runs, is sent their outcomes, returns what it makes of them
Job = Generator[Run, Outcome, Any]


@dataclass
class Worker:
    control: socket.socket
    job: int | None = None  # index of the job that it works for
    run: Run | None = None
    pipe: int | None = None
    output: bytearray = field(default_factory=bytearray)
    deadline: float = 0.0
    killed: str | None = None  # why it was told to kill the program


class Pool:
    """Workers that run programs. Raises NoIsolation when this machine allows no walls around them."""

    def __init__(self, workers: int | None = None, first_core: int | None = None):
        ranks, rank = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
        share = max(1, len(os.sched_getaffinity(0)) // ranks)
        self.count = workers or share
        self.first_core = rank * share if first_core is None else first_core
        self.owner, self.lock = os.getpid(), threading.Lock()
        self.start()

    def start(self) -> None:
        life, server_life = socket.socketpair()
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(self.count)]
        passed = [server_life.fileno(), *(theirs.fileno() for _, theirs in pairs)]
        arguments = [str(self.count), str(self.first_core), str(REPO / "setup.cfg"), *map(str, passed)]
        self.server = subprocess.Popen(
            [sys.executable, "-s", "-B", "-m", "rewards._sandbox.server", *arguments],
            # no secret of the trainer's; a fixed hash seed, so that the order of a printed set is the same every time
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONHASHSEED": "0"}
            | {"HOME": "/tmp", "TMPDIR": "/tmp", "MALLOC_ARENA_MAX": "2", "PYTHONPATH": str(REPO)}
            | {k: os.environ[k] for k in ("LD_LIBRARY_PATH",) if k in os.environ},  # a Python may need it to start
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            start_new_session=True,  # Ctrl-C is the trainer's to handle
        )
        server_life.close()
        for _, theirs in pairs:
            theirs.close()
        self.life = life
        life.settimeout(START_S)
        report = b""
        with contextlib.suppress(OSError):
            while not report.endswith(b"\n") and (piece := life.recv(65536)):
                report += piece
        if not report.endswith(b"\n"):
            self.workers = [Worker(ours) for ours, _ in pairs]
            self.server.kill()
            error = self.server.stderr.read().decode(errors="replace").strip()
            self.close()
            raise NoIsolation(f"the sandbox did not start: {error[-2000:] or 'it was silent'}")
        self.report = json.loads(report)
        self.workers = [Worker(ours) for ours, _ in pairs]
        self.tier = self.report["tier"]
        if self.tier is None:
            self.close()
            reasons = "; ".join(f"{tier}: {why}" for tier, why in self.report["refused"].items())
            raise NoIsolation(
                f"this machine allows no isolation ({reasons}). Any of these helps: run as root, allow unprivileged user "
                "namespaces (sysctl), or take a container runtime whose seccomp profile lets Landlock through"
            )

    def close(self) -> None:
        """End the server and, with it, everything that it runs."""
        if not self.workers:
            return
        for worker in self.workers:
            _hang_up(worker.control)
            if worker.pipe is not None:
                os.close(worker.pipe)
        self.workers = []
        _hang_up(self.life)
        self.server.stderr.close()
        try:
            self.server.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def map(self, jobs: Iterable[Job]) -> list:
        """Drive all jobs to their end, as many at once as there are workers; what each returned, in order.

        The runs of one job follow each other, so what it makes of them never depends on timing.
        Raises SandboxDied when the sandbox can't be kept alive.
        """
        jobs = list(jobs)
        results: list = [None] * len(jobs)
        ready: deque[tuple[int, Run]] = deque()

        def resume(index: int, outcome: Outcome | None) -> None:
            try:
                run = jobs[index].send(outcome)
            except StopIteration as end:
                results[index] = end.value
            else:
                # front of the queue: a job that is begun is finished first
                ready.appendleft((index, run))

        with self.lock:
            waiting, deaths = deque(range(len(jobs))), 0
            try:
                while waiting or ready or any(w.job is not None for w in self.workers):
                    try:
                        if not self.workers:
                            self.start()
                        for worker in self.workers:
                            while worker.job is None and (ready or waiting):
                                if ready:
                                    self._give(worker, *ready.popleft())
                                else:
                                    resume(waiting.popleft(), None)
                        for index, outcome in self._wait():
                            deaths = 0
                            resume(index, outcome)
                    except (EOFError, OSError) as error:
                        deaths += 1
                        if deaths == ATTEMPTS:
                            raise SandboxDied(f"{ATTEMPTS} times in a row, last: {error}") from error
                        ready.extendleft((w.job, w.run) for w in self.workers if w.job is not None)
                        self.close()
            except BaseException:
                self.close()  # no run of an abandoned batch may answer into the next one
                raise
        return results

    def _give(self, worker: Worker, job: int, run: Run) -> None:
        files = []
        read, write = os.pipe()
        try:
            for name, text in (("code", json.dumps([run.prelude, run.code])), ("data", run.data)):
                files.append(os.memfd_create(name))
                view = memoryview(text.encode("utf-8", "surrogatepass"))
                while view:
                    view = view[os.write(files[-1], view) :]
                os.lseek(files[-1], 0, os.SEEK_SET)
            os.set_blocking(read, False)
            worker.job, worker.run, worker.pipe, worker.killed = job, run, read, None
            worker.output, worker.deadline = bytearray(), time.monotonic() + run.limit_s
            cpu_s = int(run.limit_s * (run.count + 1)) + 2
            with contextlib.suppress(OSError):  # a dead worker is seen when its answer is awaited
                socket.send_fds(worker.control, [f"{run.kind} {cpu_s}".encode()], [*files, write])
        finally:
            for fd in (*files, write):
                os.close(fd)

    def _wait(self) -> list[tuple[int, Outcome]]:
        """Read until at least one run has ended. Raises EOFError or OSError when a worker is dead or stuck."""
        ended: list[tuple[int, Outcome]] = []
        busy = [w for w in self.workers if w.job is not None]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.control, selectors.EVENT_READ, worker)
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
            while busy and not ended:
                left = min(w.deadline for w in busy) - time.monotonic()
                for key, _ in selector.select(max(0.0, left)):
                    worker = key.data
                    if key.fileobj is worker.control:
                        try:
                            ended.append(self._finish(worker))
                        except (EOFError, OSError):
                            if ended:
                                return ended  # what the others have done counts; this shows again at the next call
                            raise
                    elif worker.job is not None and not self._read(worker):
                        selector.unregister(worker.pipe)
                now = time.monotonic()
                for worker in busy:
                    if worker.job is None or now < worker.deadline:
                        continue
                    if worker.killed:
                        raise EOFError("a worker does not answer")
                    self._kill(worker, "time")
        return ended

    def _read(self, worker: Worker) -> bool:
        """Take what the program has written; False at the end of it."""
        try:
            piece = os.read(worker.pipe, 1 << 20)
        except BlockingIOError:
            return True
        if worker.run.kind == "assert" and piece and not worker.killed:
            worker.deadline = time.monotonic() + worker.run.limit_s  # a verdict: the next assert has its own time
        worker.output += piece
        if len(worker.output) > MAX_OUTPUT and not worker.killed:
            self._kill(worker, "output")
        return bool(piece) and len(worker.output) <= 2 * MAX_OUTPUT

    def _kill(self, worker: Worker, why: str) -> None:
        worker.killed, worker.deadline = why, time.monotonic() + GRACE_S
        worker.control.send(b"kill")

    def _finish(self, worker: Worker) -> tuple[int, Outcome]:
        answer = worker.control.recv(4096)
        if not answer:
            raise EOFError("a worker died")
        answer = json.loads(answer)
        if answer["why"] == "broken":
            raise EOFError(f"a program could not be confined: {answer['error']}")
        while len(worker.output) <= MAX_OUTPUT:  # nobody writes any more
            try:
                piece = os.read(worker.pipe, 1 << 20)
            except BlockingIOError:
                break  # a fork of the trainer holds the other end
            if not piece:
                break
            worker.output += piece
        why = "output" if len(worker.output) > MAX_OUTPUT else answer["why"]
        if why == "killed":
            why = worker.killed
        outcome = Outcome(why, answer["code"], bytes(worker.output[:MAX_OUTPUT]))
        os.close(worker.pipe)
        job, worker.job, worker.pipe = worker.job, None, None
        return job, outcome


def _hang_up(end: socket.socket) -> None:
    """Close a connection also where a fork of the trainer holds a copy of its end."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


_pool: Pool | None = None
_starting = threading.Lock()


def shared() -> Pool:
    """The one pool of this process, started at the first call. Raises NoIsolation."""
    global _pool
    with _starting:
        if _pool is None or _pool.owner != os.getpid():
            _pool = Pool()
        return _pool


@atexit.register
def _stop() -> None:
    global _pool
    if _pool is not None and _pool.owner == os.getpid():
        _pool.close()
    _pool = None
