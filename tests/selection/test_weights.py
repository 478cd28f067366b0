"""Models are copied from a folder, if they are what they should be, and found where they may be."""

import hashlib
import os
from pathlib import Path

import pytest

from claude_force.base.errors import InputError
from claude_force.selection.weights import FILES, find_models, import_model, own_folder, remove_model

from .conftest import write_model


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def test_import_and_remove(model: Path) -> None:
    """Copied, private, found first, and removed again without a trace; a second import is as good."""
    assert list(find_models()) == []
    for _ in range(2):
        import_model(model, into=own_folder(), files=sums(model))
    [found] = find_models()
    assert (found.folder, found.origin) == (own_folder(), "imported")
    assert sums(own_folder()) == sums(model)
    assert {path.stat().st_mode & 0o777 for path in own_folder().iterdir()} == {0o600}
    assert remove_model(own_folder())
    assert not own_folder().exists()
    assert not remove_model(own_folder())


def test_what_is_not_the_model_is_refused(model: Path, tmp_path: Path) -> None:
    """One bit is enough; what was there is left, and nothing half-made."""
    right = sums(model)
    import_model(model, into=own_folder(), files=right)
    forged = write_model(tmp_path / "forged", seed=2)
    with pytest.raises(InputError, match="is not that of all-MiniLM-L6-v2"):
        import_model(forged, into=own_folder(), files=right)
    assert sums(own_folder()) == right
    assert len(list(own_folder().iterdir())) == len(FILES)


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    """Says which file is missing, and what a folder should have."""
    with pytest.raises(InputError, match=r"config\.json.*model\.safetensors"):
        import_model(tmp_path, into=own_folder())
    os.mkfifo(tmp_path / "config.json")  # which is not waited for
    with pytest.raises(InputError, match="it is no regular file"):
        import_model(tmp_path, into=own_folder())
    assert list(find_models()) == []


def test_half_a_copy_is_no_model(model: Path) -> None:
    """What a crash leaves behind is not used, and the next import ends it."""
    import_model(model, into=own_folder(), files=sums(model))
    (own_folder() / "model.safetensors").unlink()
    (own_folder() / ".model.safetensors.0123456789ab").write_bytes(b"half")
    assert list(find_models()) == []
    assert remove_model(own_folder())
    assert not own_folder().exists()


def test_the_cache_of_sentence_transformers(tmp_path: Path) -> None:
    """Found where Hugging Face's libraries keep it."""
    folder = tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots" / "abc"
    write_model(folder)
    [found] = find_models({"HF_HOME": str(tmp_path)})
    assert found.folder == folder
    before = found.fingerprint
    os.utime(folder / "model.safetensors", (1, 1))
    assert found.fingerprint != before
