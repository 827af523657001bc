"""The sandbox's own processes: a server, and its workers, each of which forks a process for every program.

    trainer ── starts ──> server ── forks ──> worker ── forks ──> candidate, tester
                                   (one a core, behind walls)     (one program at a time)

The server is a Python of its own, without torch, with an empty environment, and with what contest programs import
already loaded: a fork of it costs about a millisecond. A worker learns nothing about programs: their text, tests, input
and output pass by on descriptors, and are read by the process that they are meant for. So neither the tests of a
program nor the output of another one are in the memory that a candidate inherits.

A worker is process 1 of its namespace: one signal ends all that a program has started, however fast it forks, and the
kernel ends everything when the worker dies. It dies with the server, and the server ends when the trainer is gone.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import mmap
import os
import random
import select
import signal
import socket
import sys

from rewards._sandbox import callee, candidate, isolation, seccomp, tester

# what contest code imports most: loaded once, before the forks
PRELOADED = """array bisect cmath collections contextlib copy dataclasses datetime decimal enum fractions functools
    heapq inspect io itertools math operator queue re sortedcontainers statistics string threading typing"""
WATCH_MS = 50  # how often the memory of a running program is added up
PARENT_MS = 250  # how often the server looks whether the trainer is still there
# the C library's: Python's own takes twice as long, to repair what other threads held, and a worker has one thread
fork = ctypes.PyDLL(None, use_errno=True).fork
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def main(count: int, first_core: int, outside: str, life: int, controls: list[int]) -> None:
    """Start the workers in the first tier that this machine allows, say which on `life`, and wait for the trainer's end."""
    trainer = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory runs out, it is a program that goes, not the trainer
    for name in PRELOADED.split():
        with contextlib.suppress(ImportError):  # sortedcontainers may be missing
            importlib.import_module(name)
    atexit._clear()
    gc.collect()
    gc.freeze()
    refused = {}
    for tier in isolation.TIERS:
        workers = []
        for slot in range(count):
            pid, error, watched = start_worker(tier, slot, first_core + slot, outside, controls, life)
            workers.append(pid)
            if error is not None:
                break
        if error is None:
            break
        refused[tier] = error
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for control in controls:
        os.close(control)
    found = None if error is not None else tier
    os.write(life, json.dumps({"tier": found, "refused": refused, "memory_watched": watched}).encode() + b"\n")
    poll = select.poll()
    poll.register(life, select.POLLIN)
    while found and os.getppid() == trainer and not poll.poll(PARENT_MS):
        if os.waitpid(-1, os.WNOHANG)[0]:
            break  # without one of its workers the pool is not what the trainer thinks: it starts another
    os._exit(0)


def start_worker(tier: str, slot: int, core: int, outside: str, controls: list[int], life: int):
    """Fork a worker: (pid, why it could not get ready or None, whether its programs' memory is watched)."""
    read, write = os.pipe()
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        control = controls[slot]
        os.close(read)
        os.close(life)
        for other in set(controls) - {control}:
            os.close(other)
        try:
            become_worker(tier, slot, core, outside, control, write, server)
        except OSError as error:
            os.write(write, str(error).encode())
        os._exit(1)
    os.close(write)
    with open(read, "rb") as file:
        answer = file.read().decode()
    ready = answer.startswith("ready")
    return pid, None if ready else answer or "it died", answer == "ready, watched"


def become_worker(tier: str, slot: int, core: int, outside: str, control: int, ready: int, server: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):  # a fork bomb then slows down nobody else
        os.sched_setaffinity(0, {cores[core % len(cores)]})
    isolation.enter(tier)
    isolation.die_with_parent()
    if os.getppid() != server:
        os._exit(1)
    if tier != isolation.LANDLOCK:
        alive, mine = os.pipe()
        pid = os.fork()
        if pid:  # stays outside the new process namespace with nothing to do but wait
            os.close(control)
            os.close(ready)
            os.waitpid(pid, 0)
            os._exit(1)
        os.close(mine)
        isolation.die_with_parent()
        if select.select([alive], [], [], 0)[0]:
            os._exit(1)  # it died before that was set
    confine, proc = isolation.settle(tier, slot)
    found = probe(confine, outside)
    if found:
        raise OSError(f"a program can {', '.join(found)}")
    os.write(ready, b"ready" if proc is None else b"ready, watched")
    os.close(ready)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # process 1 gets no signal that it has no handler for
    candidate.open_streams()
    if hasattr(sys, "set_int_max_str_digits"):  # contest sites have no such limit
        sys.set_int_max_str_digits(0)
    random.seed(0)  # what a program draws is the same every time, and so is its reward
    work(socket.socket(fileno=control), tier, confine, proc)


def probe(confine, outside: str) -> list[str]:
    """Try the walls from within, in a process confined as every program will be."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine(5)
            found = isolation.breaches(outside)
        except BaseException as error:
            found = [f"not be confined: {error}"]
        os.write(write, json.dumps(found).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read, "rb") as file:
        return json.loads(file.read() or b'["end the probe"]')


def work(control: socket.socket, tier: str, confine, proc: int | None) -> None:
    """Run one program after the other, until the trainer closes its end.

    A request is "<kind> <seconds of processor time>", with descriptors: for stdin the code, the input and the output; for
    assert the code, the tests and the verdicts. "kill" ends the program that runs.
    """
    confined = mmap.mmap(-1, 512)  # where a process that can't be confined says why; those that are can't write to it
    for name in [m for m in sys.modules if m.partition(".")[0] == "rewards"]:
        del sys.modules[name]  # not for programs to import
    while True:
        request, fds, _, _ = socket.recv_fds(control, 256, 4)
        if not request:
            os._exit(0)
        if request == b"kill":
            continue  # the program ended by itself meanwhile
        kind, cpu_s = request.decode().split()
        confined[:] = bytes(len(confined))
        if kind == "stdin":
            pids = [fork_program(confined, confine, int(cpu_s), fds, run_stdin)]
        else:
            ours, theirs = socket.socketpair()
            code, tests, verdicts = fds
            pids = [  # the tester first: a candidate can leave no room for another process
                fork_program(confined, confine, int(cpu_s), [theirs.fileno(), tests, verdicts], run_tester),
                fork_program(confined, confine, int(cpu_s), [ours.fileno(), code], run_candidate),
            ]
            ours.close()
            theirs.close()
        for fd in fds:
            os.close(fd)
        why = watch(pids, control, proc, tier)
        status = end_all(pids, tier)
        answer = {"why": why, "code": os.waitstatus_to_exitcode(status)}
        if error := confined[:].rstrip(b"\0").decode(errors="replace"):
            answer = {"why": "broken", "error": error}
        control.send(json.dumps(answer).encode())
        if tier != isolation.LANDLOCK:
            isolation.empty("/tmp")  # should that ever fail, this worker ends, and another takes its place


def fork_program(confined: mmap.mmap, confine, cpu_s: int, fds: list[int], action) -> int:
    pid = seccomp.check(fork(), "fork")
    if pid:
        return pid
    try:
        try:
            confine(cpu_s)
            null = os.open("/dev/null", os.O_RDWR)
            high = [os.dup2(fd, 32 + i) for i, fd in enumerate([null] * 3 + fds)]  # out of each other's way
            for i, fd in enumerate(high):
                os.dup2(fd, i)
            os.closerange(len(high), 1 << 20)
        except BaseException as error:
            confined[:] = repr(error).encode()[: len(confined)].ljust(len(confined), b"\0")
            raise
        confined.close()
        action()
    finally:
        os._exit(99)


def take(fd: int) -> str:
    """All that is in a file handed over, and close it."""
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read().decode("utf-8", "surrogatepass")


def run_stdin() -> None:
    before, code = json.loads(take(3))
    for fd, target in ((4, 0), (5, 1)):
        os.dup2(fd, target)
        os.close(fd)
    candidate.run(code, before)


def run_candidate() -> None:
    callee.serve(3, *json.loads(take(4)))


def run_tester() -> None:
    tester.run(3, 5, json.loads(take(4)))


def watch(pids: list[int], control: socket.socket, proc: int | None, tier: str) -> str:
    """Wait until the program's main process ends ("ended"), the trainer says so ("killed"), or "memory" is exceeded."""
    handle = os.pidfd_open(pids[0])
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(control, select.POLLIN)
    try:
        while True:
            for fd, _ in poll.poll(WATCH_MS):
                if fd == handle:
                    return "ended"
                if not control.recv(256):
                    os._exit(0)
                return "killed"
            if proc is not None:
                # without namespaces a program can't start processes; with them, it has all of a /proc but this one
                everyone = (
                    pids if tier == isolation.LANDLOCK else [p for p in os.listdir(proc) if p.isdigit() and p != "1"]
                )
                if memory_mb(proc, everyone) > isolation.MEMORY_MB or tasks(proc, everyone) > isolation.TASKS:
                    return "memory"
    finally:
        os.close(handle)


def memory_mb(proc: int, pids: list) -> float:
    """What the processes of a program use beyond this worker's own image, which they share."""
    image = resident(proc, os.getpid())
    return sum(max(0, resident(proc, pid) - image) for pid in pids) * PAGE_MB


def tasks(proc: int, pids: list) -> int:
    """How many threads the processes of a program have: the kernel's limit on them doesn't bind root."""
    total = 0
    for pid in pids:
        with (
            contextlib.suppress(OSError),
            open(f"{pid}/stat", opener=lambda path, flags: os.open(path, flags, dir_fd=proc)) as file,
        ):
            total += int(file.read().rpartition(")")[2].split()[17])
    return total


def resident(proc: int, pid: int | str) -> int:
    """Pages in memory, 0 for a process that is gone."""
    try:
        with open(f"{pid}/statm", opener=lambda path, flags: os.open(path, flags, dir_fd=proc)) as file:
            return int(file.read().split()[1])
    except OSError:
        return 0


def end_all(pids: list[int], tier: str) -> int:
    """Kill and reap all that the program started; the main process's wait status."""
    status, main = 0, pids[0]
    # without namespaces a program starts no processes; with them, -1 is every process of this one's but itself
    for pid in pids if tier == isolation.LANDLOCK else [-1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while True:
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if pid == main:
            status = ended


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[4:]]
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], numbers[0], numbers[1:])
