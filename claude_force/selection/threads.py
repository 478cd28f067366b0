"""One thread for numpy's matrices while a text is read: many are slower for matrices as small as ours.

On a machine whose cores are busy they are twenty times slower, because each product ends only when the last thread has
had its turn. numpy has no setting for it, its OpenBLAS has; where there is another library, nothing is changed.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class _Users:
    """Who wants one thread: the setting is the process's, so the last one to leave puts it back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # protects the other two
        self.number = 0
        self.threads_before = 0

    def enter(self, switch: Callable[[int], int]) -> None:
        with self.lock:
            if not self.number:
                self.threads_before = switch(1)
            self.number += 1

    def leave(self, switch: Callable[[int], int]) -> None:
        with self.lock:
            self.number -= 1
            if not self.number:
                switch(self.threads_before)


_users = _Users()
os.register_at_fork(after_in_child=_users.__init__)  # type: ignore[misc] # a thread that holds the lock is not in a child


@contextmanager
def one_thread() -> Iterator[None]:
    """For this block; what other threads multiply meanwhile has one, too, and is right all the same."""
    switch = _switch()
    if switch is None:
        yield
        return
    _users.enter(switch)
    try:
        yield
    finally:
        _users.leave(switch)


@functools.cache
def _switch() -> Callable[[int], int] | None:
    """Sets the number of threads of the OpenBLAS that numpy's wheels bring along, and gives the one before."""
    import numpy as np  # noqa: PLC0415 - an extra

    home = Path(np.__file__).parent
    for library in (*home.with_name("numpy.libs").glob("*openblas*"), *home.glob(".dylibs/*openblas*")):
        try:
            switch = ctypes.CDLL(str(library)).openblas_set_num_threads_local
        except (OSError, AttributeError):
            continue
        switch.argtypes, switch.restype = [ctypes.c_int], ctypes.c_int
        found: Callable[[int], int] = switch
        return found
    return None
