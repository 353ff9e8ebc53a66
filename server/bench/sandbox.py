"""Runs a completed benchmark program in a restricted process: no network, no children, files in a scratch folder only.

It guards against a wrong fill's accidents (endless loops, memory, `exit`), not against an attacker.
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
import _posixsubprocess
def refuse(*_):
    raise PermissionError("not in the sandbox")
_posixsubprocess.fork_exec = refuse
folder = os.path.realpath(os.getcwd()) + os.sep
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
def audit(event, args):
    if event == "open":
        path, _, flags = args
        if not isinstance(path, int) and flags & writing:
            where = os.path.realpath(os.fsdecode(path))
            if where != os.devnull and not where.startswith(folder):
                refuse()
    elif event not in ("os.listdir", "os.scandir", "os.walk", "os.putenv", "os.unsetenv"):
        if event.partition(".")[0] in ("os", "subprocess", "socket", "shutil", "ctypes", "pty"):
            refuse()
for limit, value in (("AS", 1 << 30), ("CPU", 5), ("FSIZE", 1 << 20), ("NOFILE", 32), ("NPROC", 1), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + limit), (value, value))
sys.addaudithook(audit)
exec(compile(program, "<task>", "exec"), {"__name__": "__main__"})
os.write(out, nonce.encode())
"""


def passes(program: str, *, wall_s: float = WALL_S) -> bool:
    """Whether a whole program, its checks included, ends within the limits."""
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
