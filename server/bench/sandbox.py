"""Runs a completed benchmark program in a process that can do little: no network, no children, little of anything.

It guards against what a wrong fill does by accident (endless loops, memory, `exit`), not against an attacker.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile

WALL_S = 10.0
# The child: reads nonce and program from stdin, limits itself, runs the program, and prints the nonce only if the
# program came to its end. Its own stdout is closed to the program.
RUNNER = """
import os, resource, sys
nonce, program = sys.stdin.read().split("\\n", 1)
out = os.dup(1)
null = os.open(os.devnull, os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)
def refuse(*_, **__):
    raise PermissionError("not in the sandbox")
import socket, subprocess
socket.socket = socket.create_connection = subprocess.Popen = refuse
for name in ("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp", "kill", "killpg", "execv", "execve"):
    setattr(os, name, refuse)
for limit, value in (("AS", 1 << 30), ("CPU", 5), ("FSIZE", 1 << 20), ("NOFILE", 32), ("NPROC", 1), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + limit), (value, value))
exec(compile(program, "<task>", "exec"), {"__name__": "__main__"})
os.write(out, nonce.encode())
"""


def passes(program: str, *, wall_s: float = WALL_S) -> bool:
    """Whether a whole program, its checks included, comes to its end within the limits."""
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="midspan-bench-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            sent = f"{nonce}\n{program}".encode("utf-8", "backslashreplace")
            said, _ = process.communicate(sent, timeout=wall_s)
        except subprocess.TimeoutExpired:
            said = b""
        finally:
            _end(process)
    return said == nonce.encode()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it may have started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
