"""Python commands as processes of their own, without the seconds of their imports.

A fork server imports the recipes once; each command is forked from it, with its own arguments, environment, folder and output, and
can be killed like any other process. Accelerate's launcher is forked like a recipe, and what it starts is forked as well. What is
tested of the start of Python itself uses subprocess.
"""

import atexit
import contextlib
import ctypes
import importlib.util
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import types
import warnings
import weakref
from multiprocessing import forkserver, reduction, util
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
START, POPEN = subprocess.run, subprocess.Popen
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["vllm_on_cpu"] * (importlib.util.find_spec("vllm") is not None)
    + [f"recipes.{name}" for name in ("sft", "dpo", "grpo", "ppo", "reward_model", "evaluate", "sample", "merge", "r1")]
    + ["recipes.preflight.questions", "matplotlib.figure", "transformers.models.qwen2.modeling_qwen2"]
    + ["accelerate.commands.launch", "torch.distributed.run"]
)
LAUNCHERS = ("accelerate.commands.launch", "torch.distributed.run")
# environment variables: the network namespace that a process, and all that it forks, is in; a file for the ids of what it forks
NETWORK, CHILDREN = "FORKED_IN_NETWORK", "FORKED_CHILDREN"


class Output:
    """A file descriptor that goes to the forked process."""

    def __init__(self, fd: int):
        self.fd = fd

    def __reduce__(self):
        return _received, (reduction.DupFd(self.fd),)


@contextlib.contextmanager
def _tests_on_the_path():
    """For the fork server, which is started with the first process: Python 3.11's looks for what it preloads on a path of its own."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPO / "tests"), before]))
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        os.environ |= {"PYTHONPATH": before} if before is not None else {}


def _received(duplicate) -> Output:
    return Output(duplicate.detach())


class Popen:
    """As subprocess.Popen: `args` is [sys.executable, "-m", module, ...], [sys.executable, "-c", code, ...] or a script's."""

    def __init__(self, args: list, *, env=None, cwd=None, stdout=None, stderr=None, start_new_session=False):
        """stdout, stderr: an open file; None: this process's own. cwd: None: the repository."""
        outputs = [Output(1 if stdout is None else stdout.fileno()), Output(2 if stderr is None else stderr.fileno())]
        environment = dict(os.environ if env is None else env)
        words = [str(word) for word in args[1:] if word != "-u"]
        started = (words, environment, str(cwd or REPO), outputs, start_new_session)
        self.process = CONTEXT.Process(target=_run, args=started)
        main, sys.modules["__main__"] = (
            sys.modules["__main__"],
            types.ModuleType("__main__"),
        )  # not to be run again there
        try:
            with _tests_on_the_path():
                self.process.start()
        finally:
            sys.modules["__main__"] = main
        self.pid = self.process.pid
        if CHILDREN in os.environ:
            with open(os.environ[CHILDREN], "a") as file:
                file.write(f"{self.pid}\n")

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        self.process.join(0)
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked command", timeout)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(command: list, *, env=None, cwd=REPO, timeout: float = 600) -> subprocess.CompletedProcess:
    """A command to its end, with its output as text."""
    return run_all([(command, env)], cwd=cwd, timeout=timeout)[0]


def run_all(
    commands: list[tuple[list, dict | None]], cwd=REPO, timeout: float = 600
) -> list[subprocess.CompletedProcess]:
    """Several commands beside each other, each with its environment, to their ends."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as files:
        started = []
        for n, (command, env) in enumerate(commands):
            out, err = (files.enter_context(Path(folder, f"{n}.{kind}").open("w+")) for kind in ("out", "err"))
            started.append((command, Popen(command, env=env, cwd=cwd, stdout=out, stderr=err), out, err))
        done = []
        for command, process, *outputs in started:
            try:
                code = process.wait(timeout)
            finally:
                if process.poll() is None:
                    for _, other, *_ in started:
                        other.kill()
            for file in outputs:
                file.seek(0)
            done.append(subprocess.CompletedProcess(command, code, *(file.read() for file in outputs)))
        return done


def joined_environments(processes: int) -> list[dict]:
    """What torchrun gives each of several processes, so that they find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return [os.environ | shared | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(processes)]


def run_joined(module: str, *argv: str, processes: int, timeout: float = 600) -> list[subprocess.CompletedProcess]:
    """A recipe as processes that are joined over gloo."""
    command = [sys.executable, "-m", module, *argv]
    return run_all([(command, env) for env in joined_environments(processes)], timeout=timeout)


class Here:
    """In the place of `subprocess` in a process that was forked itself and has only imported so far: it forks once more."""

    class Popen:
        def __init__(self, command: list, *, env=None, cwd=REPO, stdout=None, stderr=None):
            """stdout, stderr: subprocess.DEVNULL, an open file, or None for this process's own."""
            sys.stdout.flush()
            self.pid = os.fork()
            if self.pid == 0:
                files = [1 if stdout is None else stdout, 2 if stderr is None else stderr]
                null = os.open(os.devnull, os.O_WRONLY)
                fds = [null if f == subprocess.DEVNULL else f if isinstance(f, int) else f.fileno() for f in files]
                _run([str(word) for word in command[1:]], dict(env or os.environ), str(cwd), list(map(Output, fds)))

        def wait(self) -> int:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def run_here(command: list, *, check=False, capture_output=False, text=True, timeout=None, **settings):
    """In the place of subprocess.run there: recipes are forked, anything else is started."""
    if command[0] != sys.executable or command[1] not in ("-m", "-c"):
        return START(command, check=check, capture_output=capture_output, text=text, timeout=timeout, **settings)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        settings |= {"stdout": out, "stderr": err} if capture_output else {}
        code = Here.Popen(command, **settings).wait()
        if check and code:
            raise subprocess.CalledProcessError(code, command)
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


def _run(words: list[str], environment: dict, cwd: str, outputs: list[Output], new_session: bool = False) -> None:
    """In the forked process: as `python <words>` in this folder, to the end of the process."""
    if new_session:
        os.setsid()
    subprocess.run, subprocess.Popen = START, POPEN
    forkserver._forkserver.ensure_running = lambda: None  # it would start a second server
    # what the parent does at its end, such as removing the temporary folders that libraries have made on import, stays its own
    atexit._clear()
    util._finalizer_registry.clear()
    atexit.register(util._run_finalizers)
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = False
    for number, output in zip((1, 2), outputs, strict=False):
        os.dup2(output.fd, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [cwd, *filter(None, environment.get("PYTHONPATH", "").split(":"))]
    if NETWORK in environment:
        with open(f"/var/run/netns/{environment[NETWORK]}") as namespace:
            assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import", category=RuntimeWarning)
    kind, what, *arguments = words if words[0] in ("-m", "-c") else ("script", *words)
    code = 0
    try:
        if kind == "-m":
            if what in LAUNCHERS:
                _fork_what_is_launched()
            sys.modules.pop(what, None)
            sys.argv = [what, *arguments]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        elif kind == "script":
            sys.argv = [what, *arguments]
            sys.path.insert(0, os.path.dirname(os.path.abspath(what)))
            runpy.run_path(what, run_name="__main__")
        else:
            sys.argv = ["-c", *arguments]
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fork_what_is_launched() -> None:
    """torchrun's processes come from the fork server as well, which is this process's parent."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    subprocess_handler.Popen = Popen
