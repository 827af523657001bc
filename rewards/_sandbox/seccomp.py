"""Which system calls a program may make: seccomp filters (linux/seccomp.h, linux/filter.h).

A filter is a classic BPF program over (call number, architecture, arguments). What may be called is in syscalls.py; here
are the few calls of which only some arguments are allowed.
"""

import ctypes
import errno
import os
import struct

from rewards._sandbox import syscalls

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
CLONE_THREAD = 0x10000
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP = 0x10000000, 0x20000000, 0x40000000, 0x2000000
ANY_NAMESPACE = (
    CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP
)
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments are 8 bytes, low half first
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: others change a file's flags through a read-only descriptor
TERMINAL_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
ALLOW, KILL = 0x7FFF0000, 0x80000000


def check(result: int, what: str) -> int:
    """The result of a C call. Raises OSError, saying what failed, when it is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def fail(code: int) -> int:
    return 0x00050000 | code


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def load(program: bytes) -> None:
    """Put a filter on this process and all that it will fork."""
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    head = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    check(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(head), 0, 0), "seccomp")


def prologue(arch: int) -> bytes:
    """Kill what comes over another architecture's entry (32-bit, x32): its numbers mean other calls."""
    return (
        instruction(LOAD, ARCHITECTURE)
        + instruction(EQUAL, arch, 1, 0)
        + instruction(RETURN, KILL)
        + instruction(LOAD, NUMBER)
        + instruction(AT_LEAST, 0x40000000, 0, 1)
        + instruction(RETURN, KILL)
    )


def on_argument(number: int, argument: int, test: int, values: tuple[int, ...], if_any: int, otherwise: int) -> bytes:
    """For one call: return one verdict if an argument's low half passes the test with any of the values, else the other."""
    program = instruction(EQUAL, number, 0, 2 * len(values) + 2) + instruction(LOAD, ARGUMENTS + 8 * argument)
    for value in values:
        program += instruction(test, value, 0, 1) + instruction(RETURN, if_any)
    return program + instruction(RETURN, otherwise)


def main_filter() -> bytes:
    """What Python needs, and nothing else."""
    allowed, arch, _ = syscalls.of_this_machine()
    program = prologue(arch)
    program += on_argument(allowed.pop("clone"), 0, ANY_BIT, (ANY_NAMESPACE,), fail(errno.EPERM), ALLOW)
    program += on_argument(allowed.pop("socketpair"), 0, EQUAL, (1,), ALLOW, fail(errno.EACCES))  # AF_UNIX
    program += on_argument(allowed.pop("prlimit64"), 0, EQUAL, (0,), ALLOW, fail(errno.EPERM))  # of oneself only
    program += on_argument(allowed.pop("ioctl"), 1, EQUAL, TERMINAL_IOCTLS, ALLOW, fail(errno.ENOTTY))
    for number in allowed.values():
        program += instruction(EQUAL, number, 0, 1) + instruction(RETURN, ALLOW)
    program += instruction(EQUAL, syscalls.CLONE3, 0, 1) + instruction(RETURN, fail(errno.ENOSYS))
    return program + instruction(RETURN, fail(errno.EPERM))


def confined_filter(landlock_version: int) -> bytes:
    """On top, where there are no namespaces: no new process, no signal, no change to a file's metadata.

    Landlock can't kill a process tree, guards no signals before its version 6, and no metadata in any; before its
    version 3 it lets files be truncated, so there nothing may be opened for writing at all.
    """
    numbers, arch, _ = syscalls.of_this_machine()
    program = prologue(arch)
    program += on_argument(numbers["clone"], 0, ANY_BIT, (CLONE_THREAD,), ALLOW, fail(errno.EPERM))
    # F_SETOWN, F_SETSIG, F_SETOWN_EX: they make a descriptor signal any process of the user
    program += on_argument(numbers["fcntl"], 1, EQUAL, (8, 10, 15), fail(errno.EPERM), ALLOW)
    denied = "fork vfork kill tkill tgkill prctl chmod fchmod fchmodat utime utimes utimensat truncate creat flock"
    for name in denied.split():
        if name in numbers:
            program += instruction(EQUAL, numbers[name], 0, 1) + instruction(RETURN, fail(errno.EPERM))
    if landlock_version < 3:
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        for name, argument in (("open", 1), ("openat", 2)):
            if name in numbers:
                program += on_argument(numbers[name], argument, ANY_BIT, (writing,), fail(errno.EACCES), ALLOW)
    return program + instruction(RETURN, ALLOW)
