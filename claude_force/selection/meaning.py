"""Whether there is a model on this machine that knows what texts mean, and if not, what is missing."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from claude_force.selection.safetensors import WeightsError
from claude_force.selection.weights import MODEL, FoundModel, find_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.selection.vectors import TextVectors
    from claude_force.stores.seal import Sealer


class Meaning(NamedTuple):
    """What can be known of meaning."""

    vectors: "TextVectors | None"
    """`None` where there is no model that can be used."""
    how: str
    """Which model it is, or what is missing; for a person."""


def find_meaning(folder: Path | None, *, kept_in: Path, sealer: "Callable[[], Sealer]") -> Meaning:
    """The model in this folder, else the first that is found; vectors are kept in a file."""
    found = next(find_models(), None) if folder is None else FoundModel(folder, "given")
    if found is None:
        return Meaning(None, f"no {MODEL} on this machine; `claude-force models import DIR` adds it")
    try:
        from claude_force.selection.minilm import MiniLm  # noqa: PLC0415 - numpy, an extra
        from claude_force.selection.vectors import TextVectors  # noqa: PLC0415
    except ImportError:
        return Meaning(None, f"{MODEL} is there, numpy is not; `pip install 'claude-force[semantic]'`")
    try:
        vectors = TextVectors(MiniLm(found.folder), found.fingerprint, kept_in, sealer)
    except (OSError, WeightsError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return Meaning(None, f"the model in {str(found.folder)!r} cannot be used: {reason}; import it anew")
    return Meaning(vectors, f"{MODEL} of {str(found.folder)!r} ({found.origin})")
