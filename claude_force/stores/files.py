"""Files, written whole or not at all."""

import os
import tempfile
from pathlib import Path

# What people share in a repository; what is private (metrics, caches, keys) is made with 0600 by its own store.
NEW_FILE_MODE = 0o644


def write_atomically(path: Path, data: bytes) -> None:
    """Write the file so that a reader sees the old content or the new, whatever happens in between.

    A symlink is followed, and an existing file keeps its mode. Raises `OSError` and leaves no temporary file behind.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(target.stat().st_mode & 0o777 if target.exists() else NEW_FILE_MODE)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def keep_beside(path: Path) -> Path:
    """Copy the file to `NAME.bak`, or `NAME.bak2` ... where that is taken, and say where it is."""
    candidates = (path.with_name(f"{path.name}.bak{number if number > 1 else ''}") for number in range(1, 1000))
    kept = next(candidate for candidate in candidates if not candidate.exists())
    write_atomically(kept, path.read_bytes())
    return kept
