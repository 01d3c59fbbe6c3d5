"""Let one of several workers have a port, and the others know that it is one of them who has it.

A lock on a file says so, which the system takes off when its holder ends, however that happens.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile

try:
    import fcntl
except ImportError:  # Windows, whose servers do not fork
    fcntl = None  # type: ignore[assignment]  # tested for below

_HELD: set[PortLock] = set()


class PortLock:
    """The right of one worker, among those of one parent process, to listen at an address."""

    def __init__(self, host: str, port: int) -> None:
        family = repr((os.getppid(), host, port))
        digest = hashlib.sha256(family.encode()).hexdigest()[:16]
        user = os.getuid() if hasattr(os, "getuid") else 0
        self._path = os.path.join(tempfile.gettempdir(), f"pool_exporter-{user}-{digest}.lock")
        self._file: int | None = None

    def take(self) -> bool:
        """Take it, if no other worker has it; True too where this process has it already.

        Raises OSError where there can be no such file.
        """
        if fcntl is None or any(turn._path == self._path and turn._file is not None for turn in _HELD):
            return True
        # Not through a link, which in a directory for all somebody else may have put there.
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(file).st_uid != os.geteuid():
                raise PermissionError(f"{self._path} is another user's")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = os.stat(self._path)
            if (current.st_dev, current.st_ino) != (os.fstat(file).st_dev, os.fstat(file).st_ino):
                raise BlockingIOError  # its holder has just given it back, and another made a new file
        except OSError as error:
            os.close(file)
            if isinstance(error, (BlockingIOError, FileNotFoundError)):
                return False
            raise
        self._file = file
        _HELD.add(self)
        return True

    def give_back(self) -> None:
        """Let another worker have it; does nothing twice."""
        file, self._file = self._file, None
        if file is not None:
            _HELD.discard(self)
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(file)

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _after_fork() -> None:
    for turn in tuple(_HELD):
        turn.forget()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
