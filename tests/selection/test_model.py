"""What texts mean, by a forward pass of our own: that it is BERT's, and that no file can make it do anything else."""

import importlib.util
import math
from pathlib import Path

import pytest

from claude_force.selection.minilm import MiniLm
from claude_force.selection.safetensors import WeightsError
from claude_force.selection.weights import PACKAGE, find_models
from claude_force.selection.wordpiece import WordPiece

from .conftest import HEADS, LAYERS, PIECES, SIZE, Numbers, safetensors, tiny_numbers

Rows = list[list[float]]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Reviews the CODE!", "re ##view ##s the code !"),
        ("naïve", "naive"),
        ("the日code", "the 日 code"),
        ("code[SEP]", "code [UNK] [UNK] [UNK]"),
        ("\x00co\u200bde\ttests\u00a0the", "code tests the"),
        ("x" * 101, "[UNK]"),
        ("rebuild", "[UNK]"),
        ("", ""),
        ("code " * 20, " ".join(["code"] * 6)),
    ],
)
def test_pieces(text: str, pieces: str) -> None:
    """Lower case, no accents, signs apart, the longest known pieces; no text can end itself, or pass its limit."""
    found = WordPiece(PIECES).ids(text, limit=8)
    assert " ".join(PIECES[number] for number in found) == f"[CLS] {pieces} [SEP]".replace("  ", " ")


def test_the_forward_pass_is_that_of_bert(model: Path) -> None:
    """The same numbers as sums done one by one, with the error function itself."""
    numbers = tiny_numbers()
    ids = WordPiece(PIECES).ids("Review the code, the tests!", limit=256)
    expected = _by_hand(numbers, ids)
    assert MiniLm(model).vector("Review the code, the tests!").tolist() == pytest.approx(expected, abs=1e-5)


def test_a_long_text_is_cut_where_the_model_ends(model: Path) -> None:
    """There is no place beyond the last one."""
    found = MiniLm(model)
    assert found.vector("code " * 1000).tolist() == found.vector("code " * 14).tolist()


def _whole() -> bytes:
    return safetensors(tiny_numbers())


_WORDS, _KINDS = "embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "header"),
        (b"\xff" * 8 + b"{}", "header"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "header"),
        ((2).to_bytes(8, "little") + b"[]", "broken"),
        ((9).to_bytes(8, "little") + b'{"a": {}}', "broken"),
        ((100_005).to_bytes(8, "little") + b'{"a":' + b"[" * 100_000, "broken"),
        (safetensors(tiny_numbers(), **{_KINDS: {"dtype": "F32", "shape": [0, 8], "data_offsets": [0, 0]}}), "F32 of"),
        (_whole()[:-4], "lies outside"),
        (safetensors({}), "has no"),
        (
            safetensors(tiny_numbers(), **{_WORDS: {"dtype": "F32", "shape": [13, 8], "data_offsets": [-8, 408]}}),
            "outside",
        ),
        (
            safetensors(tiny_numbers(), **{_WORDS: {"dtype": "F32", "shape": [13, 8], "data_offsets": [0, 1 << 60]}}),
            "outs",
        ),
        (safetensors(tiny_numbers(), **{_WORDS: {"dtype": "F16", "shape": [13, 8], "data_offsets": [0, 416]}}), "F16"),
        (
            safetensors(tiny_numbers(), **{_WORDS: {"dtype": "F32", "shape": [1 << 40, 8], "data_offsets": [0, 416]}}),
            "of",
        ),
    ],
)
def test_weights_that_are_none(model: Path, data: bytes, said: str) -> None:
    """Cut, lying, or of another type: refused before anything is read or room is made."""
    (model / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=said):
        MiniLm(model)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", "{}", "config.json is broken"),
        ("config.json", '{"hidden_size": 8', "config.json is broken"),
        ("config.json", f'{{"more": {"[" * 100_000}', "config.json is broken"),
        ("vocab.txt", "the\n", "vocabulary has no"),
        ("vocab.txt", "\n".join([*PIECES, "more"]), "should be F32"),
    ],
)
def test_a_model_that_does_not_fit_together(model: Path, name: str, text: str, said: str) -> None:
    """Each file is believed only as far as the others bear it out."""
    (model / name).write_text(text)
    with pytest.raises(WeightsError, match=said):
        MiniLm(model)


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"needs the package {PACKAGE}")
def test_the_real_model() -> None:
    """The numbers that transformers and torch give for all-MiniLM-L6-v2."""
    real = MiniLm(next(find_models()).folder)
    vector = real.vector("The quick brown fox jumps over the lazy dog.")
    assert vector[:4].tolist() == pytest.approx(GOLDEN, abs=1e-5)


GOLDEN = [0.0439335, 0.0589344, 0.0481784, 0.0775481]


def _by_hand(numbers: Numbers, ids: list[int]) -> list[float]:
    def rows(name: str) -> Rows:
        shape, values = numbers[name]
        return [values[start : start + shape[1]] for start in range(0, len(values), shape[1])]

    def linear(x: Rows, name: str) -> Rows:
        weights, bias = rows(f"{name}.weight"), numbers[f"{name}.bias"][1]
        return [[_dot(row, each) + b for each, b in zip(weights, bias, strict=True)] for row in x]

    def norm(x: Rows, name: str) -> Rows:
        scale, shift = numbers[f"{name}.weight"][1], numbers[f"{name}.bias"][1]
        return [[each * a + b for each, a, b in zip(_standard(row), scale, shift, strict=True)] for row in x]

    words, places, kinds = (rows(f"embeddings.{name}_embeddings.weight") for name in ("word", "position", "token_type"))
    x = [_sum(words[number], places[place], kinds[0]) for place, number in enumerate(ids)]
    x = norm(x, "embeddings.LayerNorm")
    each = SIZE // HEADS
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value"))
        heard: Rows = [[] for _ in x]
        for head in range(HEADS):
            part = slice(head * each, (head + 1) * each)
            for place, row in enumerate(query):
                scores = [math.exp(_dot(row[part], other[part]) / math.sqrt(each)) for other in key]
                for column in range(*part.indices(SIZE)):
                    heard[place].append(_dot(scores, [other[column] for other in value]) / sum(scores))
        heard = linear(heard, f"{layer}.attention.output.dense")
        x = norm([_sum(*pair) for pair in zip(heard, x, strict=True)], f"{layer}.attention.output.LayerNorm")
        wide = linear(x, f"{layer}.intermediate.dense")
        thought = linear(
            [[v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in row] for row in wide], f"{layer}.output.dense"
        )
        x = norm([_sum(*pair) for pair in zip(thought, x, strict=True)], f"{layer}.output.LayerNorm")
    mean = [sum(column) / len(x) for column in zip(*x, strict=True)]
    return [value / math.sqrt(_dot(mean, mean)) for value in mean]


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _sum(*rows: list[float]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _standard(row: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    variance = sum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(variance + 1e-12) for value in row]
