"""Stand-ins for `python` and `accelerate` in a shell: `python -m` and `accelerate launch` are forked as forked.py forks them.

Run: python tests/forked_commands.py <folder>  writes both into the folder, and serves them until its standard input ends.
"""

import contextlib
import json
import os
import select
import socket
import sys
import tempfile
import threading
from pathlib import Path

import forked

# its own process lives as long as the one that it stands for: killed, it takes that with it
STAND_IN = """#!{python} -IS
import json, os, socket, sys
words = {before!r} + sys.argv[{skip}:]
if words[0] != "-m":
    os.execv({python!r}, [{python!r}, *words])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([words, dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [1, 2])
    server.sendall(request)
    sys.exit(int(server.recv(16) or 1))
"""


def answer(connection: socket.socket) -> None:
    with connection:
        size, outputs, *_ = socket.recv_fds(connection, 8, 2)
        with connection.makefile("rb") as requests:
            words, environment, folder = json.loads(requests.read(int.from_bytes(size, "big")))
        stdout, stderr = (open(fd, "w") for fd in outputs)  # noqa: SIM115
        with stdout, stderr:
            process = forked.Popen(["python", *words], env=environment, cwd=folder, stdout=stdout, stderr=stderr)
            while process.poll() is None:
                if select.select([connection], [], [], 0.02)[0]:
                    process.kill()
        with contextlib.suppress(OSError):  # the stand-in was killed
            connection.sendall(str(process.returncode % 256).encode())


def main(folder: str) -> None:
    address = f"{tempfile.mkdtemp(prefix='r1-')}/commands"  # a socket's path has to be short
    for name, before, skip in (("python", [], 1), ("accelerate", ["-m", forked.LAUNCHERS[0]], 2)):
        path = Path(folder, name)
        path.write_text(STAND_IN.format(python=sys.executable, address=address, before=before, skip=skip))
        path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
