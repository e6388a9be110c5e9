"""A GGUF file read here and by transformers, which reads such files by code of its own: the same logits and tokens."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import batch_of
from hf_folders import on_one_device

from gptgan_jax import Vocabulary, build_generator
from gptgan_jax.pretrained.gguf_import import import_gguf
from gptgan_jax.pretrained.huggingface import Model, open_model

torch = pytest.importorskip("torch", reason="parity with transformers needs PyTorch")
gguf = pytest.importorskip("gguf", reason="GGUF files need the package gguf")
transformers = pytest.importorskip("transformers", reason="parity with transformers needs transformers")
pytest.importorskip("accelerate", reason="transformers reads GGUF files by it")
from gguf_files import CONFIGS, ROWS, TEXTS, architecture, quantised, write_file  # noqa: E402

WINDOWED = "llama with a window"
pytestmark = pytest.mark.thorough  # `.ci/run`, where transformers is installed
# transformers knows neither how Llama 3's files slow positions, nor biases or a window that such files have.
NAMES = [name for name in CONFIGS if name not in ("llama tied, slowed", "llama with biases", WINDOWED)]


def logits_of(model: Model, theirs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ours and theirs, of the same texts of nine tokens."""
    generator = build_generator(dataclasses.replace(model.network.config), Vocabulary(ROWS))
    params = model.params(on_one_device(generator))
    batch = batch_of(prompts=(1, 1, 1), targets=(9, 9, 9), length=9, vocabulary=generator.vocabulary)
    tokens = np.concatenate([batch.prompt, batch.target[:, :-1]], axis=1).astype(np.int64)
    with torch.no_grad():
        return np.asarray(jax.jit(generator.logits)(params, batch)), theirs(torch.tensor(tokens)).logits.numpy()


def assert_equal_logits(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_mistrals_window_is_that_of_its_folder(tmp_path: Path) -> None:
    write_file(tmp_path / "model.gguf", tmp_path / "in", WINDOWED)
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "in", dtype=torch.float32)
    assert (type(theirs).__name__, theirs.config.sliding_window) == ("MistralForCausalLM", 4)
    found, expected = logits_of(open_model(tmp_path / "out"), theirs)
    assert_equal_logits(found, expected)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "in", sliding_window=None, dtype=torch.float32
    )
    unlimited = logits_of(open_model(tmp_path / "out"), theirs)[1]
    np.testing.assert_allclose(unlimited[:, :4], expected[:, :4], rtol=1e-5, atol=1e-5)
    assert np.abs(unlimited[:, 4:] - expected[:, 4:]).max() > 1e-2 * np.abs(expected).max()  # it cuts


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_tokens_are_those_of_transformers(name: str, kind: str, tmp_path: Path) -> None:
    write_file(tmp_path / "model.gguf", tmp_path / "in", name, kind=quantised(kind))
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    read = {"pretrained_model_name_or_path": tmp_path, "gguf_file": "model.gguf"}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
    model = open_model(tmp_path / "out")
    assert type(theirs).__name__.lower().startswith(architecture(name))
    assert_equal_logits(*logits_of(model, theirs))
    tokenizer = transformers.AutoTokenizer.from_pretrained(**read)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS[:3]:
        assert tokenizer(text)["input_ids"] == again(text)["input_ids"] == model.tokenizer.encode(text)
