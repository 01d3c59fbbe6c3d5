"""Find Node.js and what some tests need of npm, and install that where it is missing."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

from tests.support import need_tool

NPM = Path(__file__).parent / "npm"
MODULES = NPM / "node_modules"
INSTALL_SECONDS = 300


def need_modules() -> Path:
    """Return the directory of the installed packages; without npm skip the test, or fail it where CI is set."""
    npm = need_tool("npm", "npm")
    installed, wanted = MODULES / ".package-lock.json", NPM / "package-lock.json"
    with (NPM / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(
                command, cwd=NPM, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
            )
            assert done.returncode == 0, done.stderr
            installed.touch()
    return MODULES


def run_node(*arguments: str, stdin: str = "") -> str:
    """Run Node.js in the directory of the packages and return what it prints; fail with what it complains of."""
    node = need_tool("node", "nodejs")
    need_modules()
    done = subprocess.run(
        [node, *arguments], cwd=NPM, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
