"""The system calls that a Python program needs, by architecture: everything else fails inside the sandbox.

A list of what is allowed, since a list of what is forbidden misses the calls of the next kernel. Not in it, among
others: socket, setsockopt, execve, mount, ptrace and process_vm_readv, memfd_create and shmget (memory that no limit counts),
sched_setaffinity, io_uring, bpf, keyctl and unshare. clone3 has its flags in memory, where a filter can't look: it is
reported as missing, and the C library falls back to clone.

Numbers from Linux's asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64).
"""

import platform

X86_64 = """
    read:0 write:1 readv:19 writev:20 pread64:17 pwrite64:18 preadv:295 pwritev:296 open:2 openat:257 creat:85
    close:3 close_range:436 dup:32 dup2:33 dup3:292 pipe:22 pipe2:293 fcntl:72 ioctl:16 flock:73 stat:4 fstat:5
    lstat:6 newfstatat:262 statx:332 access:21 faccessat:269 faccessat2:439 readlink:89 readlinkat:267
    getdents64:217 getcwd:79 chdir:80 fchdir:81 statfs:137 fstatfs:138 lseek:8 sendfile:40 copy_file_range:326
    fadvise64:221 fallocate:285 fsync:74 fdatasync:75 truncate:76 ftruncate:77 umask:95 rename:82 renameat:264
    renameat2:316 mkdir:83 mkdirat:258 rmdir:84 link:86 linkat:265 symlink:88 symlinkat:266 unlink:87 unlinkat:263
    chmod:90 fchmod:91 fchmodat:268 utime:132 utimes:235 utimensat:280 poll:7 ppoll:271 select:23 pselect6:270
    epoll_create1:291 epoll_ctl:233 epoll_wait:232 epoll_pwait:281 eventfd2:290 signalfd4:289 timerfd_create:283
    timerfd_settime:286 timerfd_gettime:287 mmap:9 mprotect:10 munmap:11 mremap:25 brk:12 madvise:28 msync:26
    mincore:27 membarrier:324 rt_sigaction:13 rt_sigprocmask:14 rt_sigreturn:15 rt_sigpending:127
    rt_sigtimedwait:128 rt_sigsuspend:130 sigaltstack:131 kill:62 tkill:200 tgkill:234 pause:34 alarm:37
    getitimer:36 setitimer:38 restart_syscall:219 clone:56 fork:57 vfork:58 exit:60 exit_group:231 wait4:61
    waitid:247 pidfd_open:434 futex:202 set_tid_address:218 set_robust_list:273 rseq:334 arch_prctl:158 prctl:157
    getpid:39 gettid:186 getppid:110 getuid:102 geteuid:107 getgid:104 getegid:108 getresuid:118 getresgid:120
    getgroups:115 getpgid:121 getpgrp:111 getsid:124 setsid:112 setpgid:109 sched_yield:24 sched_getaffinity:204
    sched_getparam:143 sched_getscheduler:145 sched_get_priority_max:146 sched_get_priority_min:147 getpriority:140
    getcpu:309 nanosleep:35 clock_nanosleep:230 clock_gettime:228 clock_getres:229 gettimeofday:96 time:201
    times:100 timer_create:222 timer_settime:223 timer_gettime:224 timer_delete:226 uname:63 sysinfo:99
    getrandom:318 getrlimit:97 setrlimit:160 prlimit64:302 getrusage:98 capget:125 socketpair:53 sendto:44
    recvfrom:45 sendmsg:46 recvmsg:47 shutdown:48 getsockname:51 getpeername:52 getsockopt:55
    setresuid:117 setresgid:119 setgroups:116 capset:126 landlock_restrict_self:446
"""

AARCH64 = """
    read:63 write:64 readv:65 writev:66 pread64:67 pwrite64:68 preadv:69 pwritev:70 openat:56 close:57
    close_range:436 dup:23 dup3:24 pipe2:59 fcntl:25 ioctl:29 flock:32 fstat:80 newfstatat:79 statx:291 faccessat:48
    faccessat2:439 readlinkat:78 getdents64:61 getcwd:17 chdir:49 fchdir:50 statfs:43 fstatfs:44 lseek:62
    sendfile:71 copy_file_range:285 fadvise64:223 fallocate:47 fsync:82 fdatasync:83 truncate:45 ftruncate:46
    umask:166 renameat:38 renameat2:276 mkdirat:34 linkat:37 symlinkat:36 unlinkat:35 fchmod:52 fchmodat:53
    utimensat:88 ppoll:73 pselect6:72 epoll_create1:20 epoll_ctl:21 epoll_pwait:22 eventfd2:19 signalfd4:74
    timerfd_create:85 timerfd_settime:86 timerfd_gettime:87 mmap:222 mprotect:226 munmap:215 mremap:216 brk:214
    madvise:233 msync:227 mincore:232 membarrier:283 rt_sigaction:134 rt_sigprocmask:135 rt_sigreturn:139
    rt_sigpending:136 rt_sigtimedwait:137 rt_sigsuspend:133 sigaltstack:132 kill:129 tkill:130 tgkill:131
    getitimer:102 setitimer:103 restart_syscall:128 clone:220 exit:93 exit_group:94 wait4:260 waitid:95
    pidfd_open:434 futex:98 set_tid_address:96 set_robust_list:99 rseq:293 prctl:167 getpid:172 gettid:178
    getppid:173 getuid:174 geteuid:175 getgid:176 getegid:177 getresuid:148 getresgid:150 getgroups:158 getpgid:155
    getsid:156 setsid:157 setpgid:154 sched_yield:124 sched_getaffinity:123 sched_getparam:121
    sched_getscheduler:120 sched_get_priority_max:125 sched_get_priority_min:126 getpriority:141 getcpu:168
    nanosleep:101 clock_nanosleep:115 clock_gettime:113 clock_getres:114 gettimeofday:169 times:153 timer_create:107
    timer_settime:110 timer_gettime:108 timer_delete:111 uname:160 sysinfo:179 getrandom:278 getrlimit:163
    setrlimit:164 prlimit64:261 getrusage:165 capget:90 socketpair:199 sendto:206 recvfrom:207 sendmsg:211
    recvmsg:212 shutdown:210 getsockname:204 getpeername:205 getsockopt:209 setresuid:147
    setresgid:149 setgroups:159 capset:91 landlock_restrict_self:446
"""

# name -> number table, AUDIT_ARCH of linux/audit.h, and the numbers that only the set-up needs
MACHINES = {
    "x86_64": (X86_64, 0xC000003E, {"pivot_root": 155}),
    "aarch64": (AARCH64, 0xC00000B7, {"pivot_root": 41}),
}
# the same on every architecture
CLONE3, LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 435, 444, 445, 446


def of_this_machine() -> tuple[dict[str, int], int, int]:
    """(allowed calls by name, AUDIT_ARCH, number of pivot_root). Raises OSError on another architecture."""
    if platform.machine() not in MACHINES:
        raise OSError(f"no table of system calls for {platform.machine()}: there are {', '.join(MACHINES)}")
    table, arch, extra = MACHINES[platform.machine()]
    return {name: int(number) for name, number in (e.split(":") for e in table.split())}, arch, extra["pivot_root"]
