"""A model like MiniLM, with numbers that mean nothing: so small that a test can do its sums by hand."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "re", "##view", "##s", "the", "code", "!", "tests", "naive", "日"]
SIZE, INNER, HEADS, LAYERS, PLACES = 8, 12, 2, 2, 16

Numbers = dict[str, tuple[list[int], list[float]]]
"""Tensors by name: shape and numbers."""


def tiny_numbers(seed: int = 1) -> Numbers:
    """Those of a small BERT, from dice."""
    dice = random.Random(seed)  # noqa: S311 - made-up weights
    shapes = {
        "embeddings.word_embeddings.weight": [len(PIECES), SIZE],
        "embeddings.position_embeddings.weight": [PLACES, SIZE],
        "embeddings.token_type_embeddings.weight": [2, SIZE],
        "embeddings.LayerNorm.weight": [SIZE],
        "embeddings.LayerNorm.bias": [SIZE],
    }
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        matrices = {
            "attention.self.query": (SIZE, SIZE),
            "attention.self.key": (SIZE, SIZE),
            "attention.self.value": (SIZE, SIZE),
            "attention.output.dense": (SIZE, SIZE),
            "intermediate.dense": (INNER, SIZE),
            "output.dense": (SIZE, INNER),
        }
        for name, (outputs, inputs) in matrices.items():
            shapes |= {f"{layer}.{name}.weight": [outputs, inputs], f"{layer}.{name}.bias": [outputs]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.weight": [SIZE], f"{layer}.{name}.bias": [SIZE]}
    return {
        name: (shape, [dice.gauss(0, 0.7) for _ in range(shape[0] * (shape[1] if shape[1:] else 1))])
        for name, shape in shapes.items()
    }


def safetensors(numbers: Numbers, **edits: Any) -> bytes:
    """The bytes of a `.safetensors` file; `edits` are put into the header over what belongs there."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (shape, values) in numbers.items():
        packed = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header | edits).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_model(folder: Path, seed: int = 1) -> Path:
    """The three files of a small model."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "hidden_size": SIZE,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": PLACES,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (folder / "model.safetensors").write_bytes(safetensors(tiny_numbers(seed)))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of one."""
    return write_model(tmp_path / "model")
