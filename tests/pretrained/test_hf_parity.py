"""Models of transformers in and out: equal logits, equal greedy texts, the same tensors back."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import batch_of
from hf_folders import on_one_device, write_words

from gptgan_jax import Generator, Vocabulary, build_generator, sample
from gptgan_jax.pretrained.huggingface import open_model, save_model
from gptgan_jax.pretrained.weights import INDEX_FILE

torch = pytest.importorskip("torch", reason="parity with transformers needs PyTorch")
transformers = pytest.importorskip("transformers", reason="parity with transformers needs transformers")

pytestmark = pytest.mark.thorough  # two minutes; `.ci/run`, where transformers is installed
VOCABULARY = Vocabulary(size=30)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 30.0,
    "factor": 3.0,
    "low_freq_factor": 0.6,
    "high_freq_factor": 1.8,
    "original_max_position_embeddings": 16,
}
GPT2: dict[str, Any] = {"vocab_size": 30, "n_embd": 12, "n_head": 3, "n_layer": 2, "n_positions": 24}
LLAMA: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 24,
    "rms_norm_eps": 1e-4,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2),
    "gpt2 untied, exact gelu": (
        "GPT2",
        GPT2 | {"activation_function": "gelu", "n_inner": 20, "tie_word_embeddings": False},
    ),
    "llama": ("Llama", LLAMA),
    "llama tied, slowed, all heads alike": (
        "Llama",
        LLAMA | {"tie_word_embeddings": True, "num_key_value_heads": 6, "rope_parameters": LLAMA3_ROPE},
    ),
    "llama with biases": ("Llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "head_dim": 2}),
    "mistral": ("Mistral", LLAMA | {"sliding_window": None, "rope_parameters": {"rope_theta": 500.0}}),
    "mistral whose window is shorter than the texts": ("Mistral", LLAMA | {"sliding_window": 4}),
    "qwen2": ("Qwen2", LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "qwen2 tied, one key head": ("Qwen2", LLAMA | {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen3": ("Qwen3", LLAMA | {"head_dim": 6}),
    "qwen3 tied": ("Qwen3", LLAMA | {"tie_word_embeddings": True, "rms_norm_eps": 1e-6}),
}


def made(name: str) -> Any:
    """A model of transformers far from its initial values: no bias is 0, no scale 1."""
    family, keys = MODELS[name]
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(**keys, **ids)
    torch.manual_seed(0)
    model = getattr(transformers, {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM"))(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def read(folder: Path, **changes: Any) -> tuple[Generator, Any]:
    model = open_model(folder)
    generator = build_generator(dataclasses.replace(model.network.config, **changes), model.tokenizer.vocabulary)
    return generator, model.params(on_one_device(generator))


def their_logits(model: Any, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    with torch.no_grad():
        given = {"attention_mask": torch.tensor(mask.astype(np.int64)), "position_ids": torch.tensor(positions)}
        return model(input_ids=torch.tensor(tokens.astype(np.int64)), **given).logits.numpy()


def assert_equal_logits(generator: Generator, params: Any, model: Any) -> None:
    """On texts with prompts of one to five tokens, padded on the left."""
    batch = batch_of(prompts=(1, 5, 3), targets=(6, 6, 6), length=6, vocabulary=VOCABULARY)
    ours = np.asarray(jax.jit(generator.logits)(params, batch))
    tokens = np.concatenate([batch.prompt, batch.target[:, :-1]], axis=1)
    mask = np.concatenate([batch.prompt_mask, np.ones((3, 5), bool)], axis=1)
    theirs = their_logits(model, tokens, mask)[:, 4:]
    assert np.abs(theirs).max() > 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def assert_equal_greedy_tokens(generator: Generator, params: Any, model: Any) -> None:
    batch = batch_of(prompts=(1, 5, 3), vocabulary=VOCABULARY)
    ours = jax.jit(lambda *given: sample(generator, *given, 12, temperature=0.0))(
        params, jax.random.key(0), batch.prompt, batch.prompt_mask
    )
    theirs = model.generate(
        torch.tensor(np.asarray(batch.prompt), dtype=torch.int64),
        attention_mask=torch.tensor(np.asarray(batch.prompt_mask), dtype=torch.int64),
        max_new_tokens=12,
        do_sample=False,
    )[:, 5:].numpy()
    ours = np.where(ours.mask, ours.tokens, 0)[:, : theirs.shape[1]]
    assert len(np.unique(ours)) > 3
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.cases(6)
@pytest.mark.parametrize("scan", [False, True], ids=["unrolled", "scanned"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers_gives_the_same_logits_and_texts_here(name: str, scan: bool, tmp_path: Path) -> None:
    model = made(name)
    model.save_pretrained(tmp_path)
    write_words(tmp_path)
    generator, params = read(tmp_path, scan_layers=scan)
    assert_equal_logits(generator, params, model)
    assert_equal_greedy_tokens(generator, params, model)


@pytest.mark.cases(6)
@pytest.mark.parametrize("scan", [False, True], ids=["unrolled", "scanned"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_gives_the_same_logits_and_texts_in_transformers(name: str, scan: bool, tmp_path: Path) -> None:
    """The way back: the config and every tensor are the same as those that came in."""
    theirs = made(name)
    theirs.save_pretrained(tmp_path / "in")
    write_words(tmp_path / "in")
    generator, params = read(tmp_path / "in", scan_layers=scan)
    (tmp_path / "out").mkdir()
    save_model(tmp_path / "out", generator, params, open_model(tmp_path / "in").tokenizer, shard_bytes=3000)
    assert (tmp_path / "out" / INDEX_FILE).exists()
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading.values()), loading
    if getattr(theirs.config, "sliding_window", None) is None:  # a Mistral whose window never ends is a Llama
        assert type(model).__name__ == type(theirs).__name__.replace("Mistral", "Llama")
    else:
        assert type(model) is type(theirs)
    assert_equal_logits(generator, params, model)
    assert_equal_greedy_tokens(generator, params, model)
    back = model.state_dict()
    assert back.keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(back[key].numpy(), value.numpy(), err_msg=key)
    assert open_model(tmp_path / "out").network.config == open_model(tmp_path / "in").network.config


def test_bfloat16_files_are_read_as_what_they_hold(tmp_path: Path) -> None:
    model = made("qwen3").to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    write_words(tmp_path)
    assert_equal_logits(*read(tmp_path), model.float())


def test_a_model_saved_without_its_head_is_read(tmp_path: Path) -> None:
    """As the hub's GPT-2 is: no name begins with `transformer.`"""
    model = made("gpt2")
    model.transformer.save_pretrained(tmp_path)
    write_words(tmp_path)
    assert_equal_logits(*read(tmp_path), model)


def test_the_keys_of_transformers_4_are_read(tmp_path: Path) -> None:
    model = made("llama tied, slowed, all heads alike")
    model.save_pretrained(tmp_path)
    write_words(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    rope = content.pop("rope_parameters")
    content |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert_equal_logits(*read(tmp_path), model)


def test_the_tokenizer_writes_what_the_generator_reads(tmp_path: Path) -> None:
    made("llama").save_pretrained(tmp_path)
    write_words(tmp_path)
    model = open_model(tmp_path)
    generator, params = read(tmp_path)
    (tmp_path / "out").mkdir()
    save_model(tmp_path / "out", generator, params, model.tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("cats birds")["input_ids"] == [1, 5, 7]
    assert theirs.decode([5, 7, 2], skip_special_tokens=True) == model.tokenizer.decode([5, 7, 2]) == "cats birds"
    assert jnp.asarray([theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id]).tolist() == [0, 1, 2]
