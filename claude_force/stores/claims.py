"""Who asks: one process at a time may claim a key, so that eight that want the same answer pay for one.

A claim is a lock on one byte of a file, at a place that the key decides. The system lets go of it when its process
dies, so a killed one holds up nobody, and nothing has to be cleaned up. Where the file cannot be used, every claim is
granted: an answer that is paid for twice is better than none.
"""

import fcntl
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from claude_force.stores.files import make_private_folder

_PLACES = 1 << 62  # more than two keys that meet in a billion years; the largest offset there is, is twice this


class Claims:
    """The claims of this process on the keys of one folder; threads share them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: _File | None = None

    def claim(self, key: str, *, is_blocking: bool = False) -> Callable[[], object] | None:
        """What lets go of the key, if it is ours now; `None` while somebody else has it, here or in another process.

        Never waits. Who would block the very thread that has the claim shares it: it would wait for itself.
        """
        try:
            return self.take(key, is_blocking=is_blocking)
        except OSError:
            return _nothing

    def take(self, key: str, *, is_blocking: bool = False) -> Callable[[], object] | None:
        """As `claim`, for whom it matters that others see it: raises `OSError` where the file cannot be used."""
        if self._file is None or self._file.process != os.getpid():
            self._file = _opened(self._path)
        return self._file.lock(_place(key), is_blocking=is_blocking)

    def is_held(self, key: str) -> bool:
        """Whether a process that lives has this claim; true where that cannot be told."""
        try:
            release = self.take(key)
        except OSError:
            return True
        if release is not None:
            release()
        return release is None


def _nothing() -> None:
    """The end of a claim where there is no file to say so."""


class _File:
    """One open file for all of a process: closing a second one would drop the locks of the first (POSIX)."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        weakref.finalize(self, os.close, self._descriptor)
        self._guard = threading.Lock()  # protects the dictionary
        self._held: dict[int, list[int]] = {}  # the places, and the threads of those who share each claim
        self.process = os.getpid()

    def lock(self, place: int, *, is_blocking: bool) -> Callable[[], object] | None:
        me = threading.get_ident()
        with self._guard:
            holders = self._held.get(place)
            if holders is None:
                try:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                except (BlockingIOError, PermissionError):
                    return None
                self._held[place] = [me]
            elif is_blocking and me in holders:
                holders.append(me)
            else:
                return None
        return partial(self._unlock, place, me)

    def _unlock(self, place: int, holder: int) -> None:
        if self.process != os.getpid():
            return  # forked meanwhile: it is the parent's claim, and the parent ends it
        with self._guard:
            holders = self._held[place]
            holders.remove(holder)
            if not holders:
                del self._held[place]
                with suppress(OSError):  # a network disk that is gone must not cost the answer
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)


_FILES: "weakref.WeakValueDictionary[str, _File]" = weakref.WeakValueDictionary()
_OPENING = threading.Lock()  # protects the dictionary
_INHERITED: list[_File] = []
"""A forked child has none of its parent's locks, and would drop its own if it closed one of these."""


def _opened(path: Path) -> _File:
    name = os.path.realpath(path)
    with _OPENING:
        file = _FILES.get(name)
        if file is None:
            make_private_folder(path.parent)
            file = _FILES[name] = _File(path)
        return file


def _after_fork() -> None:
    global _OPENING  # noqa: PLW0603 - another thread may have held it
    _OPENING = threading.Lock()
    _INHERITED.extend(_FILES.values())
    _FILES.clear()


os.register_at_fork(after_in_child=_after_fork)


def _place(key: str) -> int:
    return int(key[:16], 16) % _PLACES
