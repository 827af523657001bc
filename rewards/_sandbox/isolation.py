"""The walls around a program, in three tiers. The first that this machine allows is taken; with none, nothing runs.

namespaces        (root) own mount, process, network and IPC namespaces; a file system of its own that holds Python's
                  standard library, read-only, and a private tmpfs; another user id.
user namespaces   (anyone, where the kernel allows it) the same in a user namespace, under the same user id.
landlock          (anyone, also in a container that allows no namespaces) Landlock hides the file system but for the
                  standard library, nothing can be written, and no process can be started or signalled.

In every tier: seccomp with a list of allowed system calls (no socket, no exec, no ptrace), no_new_privs, no
capabilities, resource limits, one core a worker. None of it protects against a bug in the kernel: for programs of
people who attack you, as opposed to a model that games its reward, take a virtual machine.
"""

import ctypes
import errno
import glob
import os
import re
import resource
import signal
import socket
import struct
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from rewards._sandbox import seccomp, syscalls
from rewards._sandbox.seccomp import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    LIBC,
    check,
)  # fmt: skip

NAMESPACES, USER_NAMESPACES, LANDLOCK = "namespaces", "user namespaces", "landlock"
TIERS = (NAMESPACES, USER_NAMESPACES, LANDLOCK)

# of address space beyond the interpreter's own, a process; of memory in use, all processes of a program
MEMORY_MB = 1024
PROCESSES = 32
TASKS = 256  # threads of all processes of a program, where the kernel doesn't limit them: it does not for root
OTHERS = 1024  # more than ran when the worker started, where everything under the user id counts
FILE_MB = 32
STACK_MB = 64
OPEN_FILES = 48

DESCRIPTION = {
    NAMESPACES: """\
  Own file system (the standard library, read-only, and a private tmpfs), processes, network and user id; seccomp.
  Not covered: bugs in the kernel.""",
    USER_NAMESPACES: """\
  Own file system (the standard library, read-only, and a private tmpfs), processes and network; seccomp.
  Not covered: bugs in the kernel. Programs run under your own user id, with nothing of yours in reach.""",
    LANDLOCK: """\
  No file can be read but the standard library, none written; no process, signal or socket; seccomp.
  Not covered: bugs in the kernel; whether a file of a known name exists, its size and its date.
  Honest programs that write a file or start a process fail here.""",
}

NEW_NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

ROOT = "/tmp"  # where the new root is put together: a folder that every system has
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PACKAGES = (
    "numpy",
    "numpy.libs",
    "sortedcontainers",
)  # importable in addition to the standard library, where they are installed


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    encoded = (x and x.encode() for x in (source, target, kind))
    check(LIBC.mount(*encoded, ctypes.c_ulong(flags), options and options.encode()), f"mount {target}")


# -- the file system


def library() -> tuple[list[str], list[str]]:
    """(what a program may read, what is hidden within it): the standard library and the system's shared libraries.

    Installed packages are hidden, NumPy excepted: some ship test sets with their answers.
    """
    python = {sysconfig.get_path("stdlib"), *(os.path.join(p, "lib") for p in (sys.base_prefix, sys.base_exec_prefix))}
    system = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"}
    paths = sorted({os.path.realpath(p) for p in python | system if os.path.exists(p)})
    tops = [p for p in paths if not any(p.startswith(q + "/") for q in paths)]
    hidden = [h for p in tops for depth in ("", "*/", "*/*/") for h in glob.glob(f"{p}/{depth}*-packages")]
    return tops, [h for h in hidden if os.path.isdir(h)]


def installed() -> list[str]:
    folder = sysconfig.get_path("platlib")
    return [p for name in PACKAGES if os.path.isdir(p := os.path.join(folder, name))]


def build_root(owner: int) -> None:
    """Make a new, small file system the only one there is, with a tmpfs at /tmp that belongs to `owner`."""
    tops, hidden = library()
    packages = {p: f"/packages/{os.path.basename(p)}" for p in installed()}
    where = {p: p for p in (*tops, *DEVICES)} | packages
    # the sources may lie below ROOT, and are then out of sight
    handles = {p: os.open(p, os.O_PATH | os.O_CLOEXEC) for p in where}
    folders = {p for p in where if os.path.isdir(p)}
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path, inside in where.items():
        target = ROOT + inside
        if path in folders:
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(f"/proc/self/fd/{handles[path]}", target, None, MS_BIND | MS_REC)
        if path not in DEVICES:
            kept = os.fstatvfs(handles[path]).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)  # a user can't lift these
            mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | kept)
        os.close(handles[path])
    for path in hidden:
        mount("tmpfs", ROOT + path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k")
    for name in ("lib", "lib64"):
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), f"{ROOT}/{name}")
    for name in ("tmp", "old"):
        os.mkdir(f"{ROOT}/{name}")
    os.symlink("/tmp", f"{ROOT}/dev/shm")  # multiprocessing's semaphores
    scratch = f"size={FILE_MB}m,nr_inodes=4k,mode=700,uid={owner},gid={owner}"
    mount("tmpfs", f"{ROOT}/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, scratch)
    pivot_root = syscalls.of_this_machine()[2]
    check(LIBC.syscall(pivot_root, ROOT.encode(), f"{ROOT}/old".encode()), "pivot_root")
    os.chdir("/")
    check(LIBC.umount2(b"/old", MNT_DETACH), "umount /old")
    os.rmdir("/old")
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def own_proc() -> int | None:
    """A handle on this process namespace's /proc, which no program gets; None where the kernel refuses it to users."""
    try:
        mount("proc", ROOT, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError:
        return None
    handle = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    check(LIBC.umount2(ROOT.encode(), MNT_DETACH), "umount proc")
    return handle


def empty(folder: str) -> None:
    """Delete what a program left in its scratch folder, however deep: folders are flattened before they are removed."""
    os.chmod(folder, 0o700)
    os.utime(folder, (0, 0))  # no note to the next program
    moved = 0
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                moved += 1
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)  # moving a folder writes to it
                os.rename(inner.path, f"{folder}/.moved-{moved}-{os.urandom(8).hex()}")
            os.rmdir(entry.path)


# -- Landlock (linux/landlock.h)

LANDLOCK_WRITE_FILE, LANDLOCK_READ_FILE, LANDLOCK_READ_DIR = 2, 4, 8
LANDLOCK_RULE_PATH_BENEATH = 1


def landlock_version() -> int:
    """The version of Landlock that this kernel speaks. Raises OSError when it speaks none."""
    create = syscalls.LANDLOCK_CREATE_RULESET
    return check(LIBC.syscall(create, None, ctypes.c_size_t(0), 1), "Landlock is not available in this kernel")


def landlock_ruleset() -> int:
    """A ruleset under which the library can be read, and nothing else: no file written, made, moved or removed."""
    version = landlock_version()
    # what came with versions 2, 3 and 5: moving, truncating, and ioctl on devices
    files = (1 << 13) - 1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    files |= 1 << 15 if version >= 5 else 0
    attributes = struct.pack("QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    attributes = attributes[: 8 if version < 4 else 16 if version < 6 else 24]
    create = syscalls.LANDLOCK_CREATE_RULESET
    ruleset = check(LIBC.syscall(create, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock_create_ruleset")

    def allow(path: str, access: int) -> None:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", access if os.path.isdir(path) else access & ~LANDLOCK_READ_DIR, handle)
        check(LIBC.syscall(syscalls.LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0), f"allow {path}")
        os.close(handle)

    tops, hidden = library()

    def expand(path: str) -> None:
        """Landlock can't hide what lies within an allowed folder: allow its other entries, one by one."""
        if path in hidden:
            return
        if not any(h.startswith(path + "/") for h in hidden):
            return allow(path, LANDLOCK_READ_FILE | LANDLOCK_READ_DIR)
        for entry in os.listdir(path):
            if os.path.exists(os.path.join(path, entry)):
                expand(os.path.join(path, entry))

    for path in tops:
        expand(path)
    for path in DEVICES:
        allow(path, LANDLOCK_READ_FILE | (LANDLOCK_WRITE_FILE if path == "/dev/null" else 0))
    for path in installed():
        allow(path, LANDLOCK_READ_FILE | LANDLOCK_READ_DIR)
        allow(os.path.dirname(path), LANDLOCK_READ_DIR)  # the names of the others can be seen
    return ruleset


# -- a worker, and the programs in it


def spare_uid(slot: int) -> int:
    """A user id that nobody has, within what this user namespace maps; the limit on processes counts by user id."""
    with open("/proc/self/uid_map") as file:
        first, _, count = max((tuple(map(int, line.split())) for line in file), key=lambda m: m[2])
    spread = (os.getpid() * 64 + slot) % 1_000_000 if count > 2_000_000 else slot
    return first + count - 100 - spread


def counts_by_namespace(tier: str) -> bool:
    """Whether the limit on a user's processes counts those of its own user namespace only: since Linux 5.14."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tier == USER_NAMESPACES and release is not None and (int(release[1]), int(release[2])) >= (5, 14)


def may_change_user() -> bool:
    """Whether this process may take another user id, and still kill what it forks under it."""
    with open("/proc/self/status") as file:
        effective = int(next(line.split()[1] for line in file if line.startswith("CapEff")), 16)
    return all(effective >> bit & 1 for bit in (5, 6, 7))  # CAP_KILL, CAP_SETGID, CAP_SETUID


def open_to_others(paths: list[str]) -> bool:
    """Whether any user can get to these folders: not to a Python below /root."""
    ways = {str(folder) for path in paths for folder in (path, *Path(path).parents)}
    return all(os.stat(folder).st_mode & 0o001 for folder in ways if os.path.isdir(folder))


def enter(tier: str) -> None:
    """Leave the namespaces of the trainer: what this process forks from now on is in the new ones. Raises OSError."""
    if tier == NAMESPACES:
        if os.geteuid() != 0:
            raise OSError(errno.EPERM, "not root")
        check(LIBC.unshare(NEW_NAMESPACES), "unshare")
    elif tier == USER_NAMESPACES:
        uid, gid = os.geteuid(), os.getegid()
        check(LIBC.unshare(NEW_NAMESPACES | CLONE_NEWUSER), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    else:
        landlock_version()


def settle(tier: str, slot: int) -> tuple[Callable[[int], None], int | None]:
    """Put this worker behind its walls: (what each program must call first, a handle on /proc to watch memory with).

    The worker has no more rights than a program, but one: a program can't signal process 1 of its namespace.
    Raises OSError when this machine doesn't allow the tier.
    """
    with open("/proc/self/statm") as file:
        mapped_bytes = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/loadavg") as file:  # "... running/tasks last"
        running = int(file.read().split()[3].partition("/")[2])
    packages = [os.path.dirname(p) if tier == LANDLOCK else "/packages" for p in installed()[:1]]
    tops, _ = library()
    importable = [p for p in sys.path if p.startswith(tuple(tops)) and "-packages" not in p] + packages
    own_id = None
    if tier != USER_NAMESPACES and may_change_user() and (tier == NAMESPACES or open_to_others(tops)):
        own_id = spare_uid(slot)
    ruleset = second = None
    if tier == LANDLOCK:
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        ruleset, second = landlock_ruleset(), seccomp.confined_filter(landlock_version())
        os.chdir("/")
    else:
        proc = own_proc()
        build_root(os.geteuid() if own_id is None else own_id)
        os.chdir("/tmp")
    sys.path[:] = importable
    seccomp.load(seccomp.main_filter())
    limits = {
        resource.RLIMIT_AS: mapped_bytes + (MEMORY_MB << 20),
        resource.RLIMIT_FSIZE: FILE_MB << 20,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    if own_id is not None or counts_by_namespace(tier):
        limits[resource.RLIMIT_NPROC] = PROCESSES + 1  # this one
    else:
        limits[resource.RLIMIT_NPROC] = running + OTHERS
    for which, value in limits.items():
        resource.setrlimit(which, (value, value))
    # contest programs raise it themselves: what a stack takes is address space as well
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_MB << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    if own_id is not None:
        os.setgroups([])
        os.setresgid(own_id, own_id, own_id)
        os.setresuid(own_id, own_id, own_id)
    capset = syscalls.of_this_machine()[0]["capset"]
    check(LIBC.syscall(capset, struct.pack("Ii", 0x20080522, 0), bytes(24)), "capset")
    die_with_parent()  # a change of user or capabilities has undone that

    def confine(cpu_s: int) -> None:
        """In a program's process, before its first line."""
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        if tier == LANDLOCK:
            die_with_parent()
            check(LIBC.syscall(syscalls.LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
            seccomp.load(second)

    return confine, proc


def die_with_parent() -> None:
    check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PDEATHSIG")


def breaches(outside: str) -> list[str]:
    """In a confined process: what it can do and shouldn't. `outside` is a file that only the trainer may read."""
    found = []

    def forbidden(what: str, action: Callable) -> None:
        try:
            action()
        except OSError:
            return
        found.append(what)

    forbidden("open a socket", lambda: socket.socket())
    forbidden("start a program", lambda: os.execv(sys.executable, [sys.executable, "-c", ""]))
    forbidden("read a file outside", lambda: open(outside).close())
    forbidden("read the password file", lambda: open("/etc/passwd").close())
    forbidden("read another process's memory", lambda: open("/proc/self/mem").close())
    forbidden("write outside its folder", lambda: open("/r1-recipes-probe", "w").close())
    forbidden("become root", lambda: os.setuid(0 if os.getuid() else 1))
    forbidden("change another process's limits", lambda: resource.prlimit(os.getppid() or 1, resource.RLIMIT_CPU))
    return found
