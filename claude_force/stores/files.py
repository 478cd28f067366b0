"""Files, written whole or not at all."""

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader, BufferedWriter
    from typing import BinaryIO


def make_private_folder(folder: Path) -> None:
    """A folder for this user alone, which git passes over; one that is there already is left as it is."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")


def write_atomically(path: Path, data: bytes) -> None:
    """Write the file so that a reader sees the old content or the new, whatever happens in between; as `replacing`."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> "Iterator[BinaryIO]":
    """A file of the user's to write, which will stand at that path when the block has ended without an error.

    A symlink is followed, an existing file keeps its mode, and a new one gets what the user's umask says. Raises
    `OSError`; then, or where the block raises, all is as it was.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _finished(target, mode=0o666) as file:
        if target.exists():
            os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
        yield file


@contextmanager
def replacing_privately(path: Path) -> "Iterator[BufferedWriter]":
    """The same for a file of our own: private (0600), and its name on the disk, in a folder that is there.

    A link that is there is replaced, and not followed: so nobody who may leave one chooses what is written over.
    """
    with _finished(path, mode=0o600) as file:
        yield file
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _finished(
    path: Path, *, mode: int, name: "Callable[[Path, Path], object]" = os.replace
) -> "Iterator[BufferedWriter]":
    """A new file, which is given this name once all of it is on the disk; or there is none."""
    temporary = hidden_beside(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def keep_beside(path: Path) -> Path:
    """Copy the file to `NAME.bak`, or `NAME.bak2` ... where that is taken, and say where it is."""
    candidates = (path.with_name(f"{path.name}.bak{number if number > 1 else ''}") for number in range(1, 1000))
    # A link that leads nowhere takes a name, too: a copy by way of it would lie wherever its author wanted it.
    kept = next(candidate for candidate in candidates if not os.path.lexists(candidate))
    with _finished(kept, mode=path.stat().st_mode & 0o777) as file:  # what was private stays so
        file.write(path.read_bytes())
    return kept


def write_once(path: Path, data: bytes) -> bool:
    """Make a private file (0600) with this content unless there is one already; whether it was made.

    Of several processes one wins, and no reader ever sees a part: the file gets its name when it is complete. Its
    folder is made with 0700. Raises `OSError` and leaves no temporary file behind.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _finished(path, mode=0o600, name=os.link) as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def open_regular(path: Path, flags: int = 0) -> "BufferedReader":
    """A regular file to read; a pipe is not waited for. Raises `OSError`, also for what is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        reason = os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "it is no regular file"
        raise OSError(errno.EINVAL, reason, str(path))
    return os.fdopen(descriptor, "rb")


def hidden_beside(path: Path) -> Path:
    """A name that nobody else takes, for a file that is not finished yet."""
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}")
