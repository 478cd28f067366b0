"""What a text means, as a vector: the forward pass of a small BERT with mean pooling, in numpy alone.

Made for `all-MiniLM-L6-v2` (6 layers, 384 numbers a text), and right for any BERT encoder whose sentences are the mean
of their tokens. Texts go through one by one: there is no padding, so there is no mask, and no time for either.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from claude_force.selection.safetensors import Tensors, WeightsError
from claude_force.selection.wordpiece import WordPiece

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

MAX_TOKENS = 256
"""Of a text, the rest of which is not read: the length that MiniLM's sentences were trained with."""
MAX_FILE_BYTES = 4_000_000
"""Of the vocabulary, and of the config."""
CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocab.txt", "model.safetensors"


class _Shape(msgspec.Struct):
    """What `config.json` says of the model."""

    hidden_size: int
    num_attention_heads: int
    num_hidden_layers: int
    intermediate_size: int
    max_position_embeddings: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12


class _Linear:
    """A matrix and a bias, multiplied as they lie in the file; several of one input are one, which is faster."""

    def __init__(self, tensors: Tensors, *names: str, inputs: int, outputs: int) -> None:
        weights = [tensors.get(f"{name}.weight", outputs, inputs) for name in names]
        self._weights = np.concatenate(weights) if len(weights) > 1 else weights[0]
        self._bias = np.concatenate([tensors.get(f"{name}.bias", outputs) for name in names])

    def __call__(self, x: "Array") -> "Array":
        y: Array = (self._weights @ x.T).T + self._bias
        return y


class _Norm:
    def __init__(self, tensors: Tensors, name: str, size: int, epsilon: float) -> None:
        self._scale, self._shift = tensors.get(f"{name}.weight", size), tensors.get(f"{name}.bias", size)
        self._epsilon = np.float32(epsilon)

    def __call__(self, x: "Array") -> "Array":
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        y: Array = centred / np.sqrt(variance + self._epsilon) * self._scale + self._shift
        return y


class _Layer:
    def __init__(self, tensors: Tensors, name: str, shape: _Shape) -> None:
        size, inner, epsilon = shape.hidden_size, shape.intermediate_size, shape.layer_norm_eps
        parts = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        self._heads = shape.num_attention_heads
        self._asking = _Linear(tensors, *parts, inputs=size, outputs=size)
        self._heard = _Linear(tensors, f"{name}.attention.output.dense", inputs=size, outputs=size)
        self._after_hearing = _Norm(tensors, f"{name}.attention.output.LayerNorm", size, epsilon)
        self._wide = _Linear(tensors, f"{name}.intermediate.dense", inputs=size, outputs=inner)
        self._narrow = _Linear(tensors, f"{name}.output.dense", inputs=inner, outputs=size)
        self._after_thinking = _Norm(tensors, f"{name}.output.LayerNorm", size, epsilon)

    def __call__(self, x: "Array") -> "Array":
        tokens, size = x.shape
        each = size // self._heads
        query, key, value = self._asking(x).reshape(tokens, 3, self._heads, each).transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1) / np.float32(each**0.5)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        heard = (weights @ value).transpose(1, 0, 2).reshape(tokens, size)
        x = self._after_hearing(self._heard(heard) + x)
        return self._after_thinking(self._narrow(_gelu(self._wide(x))) + x)


class MiniLm:
    """A model in a folder. Raises `OSError`, and `WeightsError` where its files do not fit together."""

    def __init__(self, folder: Path) -> None:
        shape = _read_shape(folder / CONFIG)
        self._tensors = tensors = Tensors(folder / WEIGHTS)
        vocabulary = _read(folder / VOCABULARY).decode(errors="replace").splitlines()
        try:
            self._pieces = WordPiece(vocabulary)
        except KeyError as error:
            raise WeightsError(f"its vocabulary has no {error}") from error
        self.size = size = shape.hidden_size
        self._words = tensors.get("embeddings.word_embeddings.weight", len(vocabulary), size)
        positions = tensors.get("embeddings.position_embeddings.weight", shape.max_position_embeddings, size)
        kind = "embeddings.token_type_embeddings.weight"
        kinds = tensors.get(kind, tensors.rows(kind) or 1, size)  # of which the first is needed
        self._places = positions[:MAX_TOKENS] + kinds[0]
        self._norm = _Norm(tensors, "embeddings.LayerNorm", size, shape.layer_norm_eps)
        self._layers = [_Layer(tensors, f"encoder.layer.{number}", shape) for number in range(shape.num_hidden_layers)]

    def vector(self, text: str) -> "Array":
        """Its meaning: `size` numbers, of length 1, so that the product of two is their cosine."""
        ids = self._pieces.ids(text, limit=len(self._places))
        x = self._norm(self._words[ids] + self._places[: len(ids)])
        for layer in self._layers:
            x = layer(x)
        mean = x.mean(0)
        length = np.linalg.norm(mean)
        vector: Array = (mean / length if length > 0 else mean).astype(np.float32)
        return vector


_MOST_LAYERS, _MOST_NUMBERS = 64, 16_384


def _read_shape(path: Path) -> _Shape:
    try:
        shape = msgspec.json.decode(_read(path), type=_Shape)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WeightsError(f"its {CONFIG} is broken ({error})") from error
    sizes = (shape.hidden_size, shape.intermediate_size, shape.max_position_embeddings, shape.num_attention_heads)
    if not (
        all(0 < size <= _MOST_NUMBERS for size in sizes)
        and 0 < shape.num_hidden_layers <= _MOST_LAYERS
        and shape.hidden_size % shape.num_attention_heads == 0
        and shape.hidden_act == "gelu"
    ):
        raise WeightsError(f"its {CONFIG} describes no model that can be run here")
    return shape


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise WeightsError(f"its {path.name} is longer than {MAX_FILE_BYTES:,} bytes")
    return data


def _gelu(x: "Array") -> "Array":
    """`x` times the share of a normal distribution below x. numpy has no `erf`; this one errs by 1.5e-7 at most.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
    """
    y = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * y)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429)))))
    tail *= np.exp(-y * y) * np.float32(0.5)
    return x * np.where(x < 0, tail, 1 - tail)
