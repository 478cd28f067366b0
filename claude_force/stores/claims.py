"""Who asks: one process at a time may claim a key, so that eight that want the same answer pay for one.

A claim is a lock on one byte of a file, at a place that the key decides. The system lets go of it when its process
dies, so a killed one holds up nobody, and nothing has to be cleaned up. Where the file cannot be used, every claim is
granted: an answer that is paid for twice is better than none.
"""

import fcntl
import os
import threading
import weakref
from pathlib import Path

from claude_force.stores.files import make_private_folder

_PLACES = 1 << 62  # more than two keys that meet in a billion years; the largest offset there is, is twice this


class Claims:
    """The claims of this process on the keys of one folder; threads share them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: _File | None = None

    def claim(self, key: str) -> bool:
        """Whether the key is ours now; false while somebody else has it, in this process or another. Never waits."""
        try:
            if self._file is None:
                self._file = _opened(self._path)
            return self._file.lock(_place(key))
        except OSError:
            return True

    def release(self, key: str) -> None:
        """Let go of a claim; without one, nothing happens."""
        if self._file is not None:
            self._file.unlock(_place(key))


class _File:
    """One open file for all of a process: closing a second one would drop the locks of the first (POSIX)."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        weakref.finalize(self, os.close, self._descriptor)
        self._guard = threading.Lock()  # protects the set
        self._held: set[int] = set()
        self.process = os.getpid()

    def lock(self, place: int) -> bool:
        with self._guard:
            if place in self._held:
                return False
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                return False
            self._held.add(place)
            return True

    def unlock(self, place: int) -> None:
        with self._guard:
            if place in self._held:
                self._held.discard(place)
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)


_FILES: "weakref.WeakValueDictionary[str, _File]" = weakref.WeakValueDictionary()
_OPENING = threading.Lock()  # protects the dictionary


def _opened(path: Path) -> _File:
    name = os.path.realpath(path)
    with _OPENING:
        file = _FILES.get(name)
        if file is None or file.process != os.getpid():  # a forked child has none of its parent's locks
            make_private_folder(path.parent)
            file = _FILES[name] = _File(path)
        return file


def _place(key: str) -> int:
    return int(key[:16], 16) % _PLACES
