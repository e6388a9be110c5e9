"""Tiny GGUF files, written from Hugging Face folders as llama.cpp's converter writes them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
from helpers import build
from hf_folders import QWEN3
from safetensors.numpy import load_file
from tokenizers import decoders, models, pre_tokenizers, trainers

from gptgan_jax import TransformerConfig, Vocabulary
from gptgan_jax.data.tokenizers import read_tokenizer
from gptgan_jax.pretrained.huggingface import save_model

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_LLAMA = QWEN3 | {"qk_norm": False, "width": 32, "head_width": 8, "mlp_width": 64}
CONFIGS: dict[str, TransformerConfig] = {
    "llama": TransformerConfig(**_LLAMA, rope_theta=500.0, tied_embeddings=False),
    "llama tied, slowed": TransformerConfig(**_LLAMA, rope_theta=5e5, rope_scaling="llama3", rope_factor=3.0),
    "llama with biases": TransformerConfig(**(_LLAMA | {"qkv_bias": True, "bias": True})),
    "llama with a window": TransformerConfig(**_LLAMA, window=4, tied_embeddings=False),  # a Mistral
    "qwen2": TransformerConfig(**(_LLAMA | {"qkv_bias": True, "norm_eps": 1e-6})),
    "qwen3": TransformerConfig(**(_LLAMA | {"qk_norm": True, "head_width": 128})),
    "gpt2": TransformerConfig(layers=2, width=32, heads=4, max_positions=1024),
}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = ["two cats sleep here, 12 dogs don't", "It's 1234 o'clock; we'll hide", "naïve mice  sing\nnow\n"] * 3

ROWS = 310
TEXTS = [
    "two cats sleep here, 12 dogs don't",
    "It's 1234 o'clock;  WE'LL\n\n\thide",
    " naïve mice — 猫が好き 😀\r\n",
    "<|im_end|> is text",
    "",
]


def byte_level(vocab_size: int = 300) -> tokenizers.Tokenizer:
    """A byte-level BPE as SmolLM's, with three special tokens in front."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def tokenizer_keys(backend: tokenizers.Tokenizer, rows: int | None = None, pre: str = "smollm") -> dict[str, Any]:
    """The keys of a byte-level BPE; rows that no token has are named as the converter names them."""
    model = json.loads(backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    types = [3 if token in SPECIAL else 1 for token in tokens]
    for i in range(len(tokens), rows or len(tokens)):
        tokens.append(f"[PAD{i}]")
        types.append(5)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{% for message in messages %}<|im_start|>{{ message.content }}{% endfor %}",
    }


def model_keys(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys of a network, from a config.json."""
    if name == "gpt2":
        return {
            "general.architecture": name,
            "gpt2.block_count": content["n_layer"],
            "gpt2.context_length": content["n_positions"],
            "gpt2.embedding_length": content["n_embd"],
            "gpt2.feed_forward_length": content["n_inner"],
            "gpt2.attention.head_count": content["n_head"],
            "gpt2.attention.layer_norm_epsilon": content["layer_norm_epsilon"],
        }
    window = content.get("sliding_window")
    return {
        "general.architecture": name,
        **({} if window is None else {f"{name}.attention.sliding_window": window}),
        f"{name}.vocab_size": content["vocab_size"],
        f"{name}.block_count": content["num_hidden_layers"],
        f"{name}.context_length": content["max_position_embeddings"],
        f"{name}.embedding_length": content["hidden_size"],
        f"{name}.feed_forward_length": content["intermediate_size"],
        f"{name}.attention.head_count": content["num_attention_heads"],
        f"{name}.attention.head_count_kv": content["num_key_value_heads"],
        f"{name}.attention.key_length": content["head_dim"],
        f"{name}.attention.value_length": content["head_dim"],
        f"{name}.attention.layer_norm_rms_epsilon": content["rms_norm_eps"],
        f"{name}.rope.freq_base": content["rope_theta"],
        f"{name}.rope.dimension_count": content["head_dim"],
    }


def tensors_of(folder: Path, content: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """The tensors of a folder, named and laid out as llama.cpp has them."""
    found = {}
    for theirs, x in load_file(folder / "model.safetensors").items():
        stem, _, end = theirs.rpartition(".")
        if stem in _NAMES:
            found[f"{_NAMES[stem]}.{end}"] = x
            continue
        number, _, inside = stem.removeprefix("model.layers.").removeprefix("transformer.h.").partition(".")
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(_NAMES[inside])
        if name == "llama" and heads is not None:
            count = content[heads]
            x = x.reshape(count, 2, x.shape[0] // count // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
        if name == "gpt2" and x.ndim == 2:
            x = x.T
        found[f"blk.{number}.{_NAMES[inside]}.{end}"] = np.ascontiguousarray(x)
    rope = content.get("rope_parameters", {})
    if rope.get("rope_type") == "llama3":
        found["rope_freqs.weight"] = llama3_factors(content["head_dim"], rope)
    return found


def llama3_factors(size: int, rope: Mapping[str, Any]) -> np.ndarray:
    """By how much each pair of features is slowed, as the converter computes it."""
    factors = []
    for frequency in 1.0 / rope["rope_theta"] ** (np.arange(0, size, 2) / size):
        wavelength, original = 2 * np.pi / frequency, rope["original_max_position_embeddings"]
        if wavelength < original / rope["high_freq_factor"]:
            factors.append(1.0)
        elif wavelength > original / rope["low_freq_factor"]:
            factors.append(rope["factor"])
        else:
            smooth = (original / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.asarray(factors, np.float32)


def write_gguf(
    path: Path,
    keys: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    kind: Callable[[str, np.ndarray], gguf.GGMLQuantizationType | None] = lambda name, x: None,
) -> None:
    """A file of these keys and tensors.

    Args:
        path: of the file.
        keys: with values in Python's types; float32 for floats, uint32 for whole numbers.
        tensors: by name.
        kind: how a tensor is quantised; None: not at all.
    """
    writer = gguf.GGUFWriter(path, keys.get("general.architecture", "llama"))
    put_keys(writer, keys)
    for name, x in tensors.items():
        how = kind(name, x)
        if how is None:
            writer.add_tensor(name, x)
        else:
            writer.add_tensor(name, gguf.quantize(x, how), raw_dtype=how)
    finish(writer)


def put_keys(writer: gguf.GGUFWriter, keys: Mapping[str, Any]) -> None:
    """All but the architecture, which a writer is made with."""
    for key, value in keys.items():
        if key != "general.architecture":
            _put(writer, key, value)


def finish(writer: gguf.GGUFWriter) -> None:
    """Writes the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _put(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, Iterable):
        writer.add_array(key, list(value))
    else:
        raise TypeError(f"{key}: {value!r}")


def architecture(name: str) -> str:
    return name.split()[0]


def write_folder(folder: Path, name: str) -> dict[str, Any]:
    """A folder with random weights; the content of its config.json."""
    folder.mkdir(parents=True)
    generator, params = build(CONFIGS[name], Vocabulary(ROWS, 0, 1, 2))
    byte_level().save(str(folder / "tokenizer.json"))
    save_model(folder, generator, params, read_tokenizer(folder / "tokenizer.json").padded(ROWS))
    return json.loads((folder / "config.json").read_text())


def write_file(path: Path, folder: Path, name: str, **options: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A file of the same model; its keys and tensors."""
    content = write_folder(folder, name)
    keys = model_keys(content, architecture(name)) | tokenizer_keys(byte_level(), ROWS)
    tensors = tensors_of(folder, content, architecture(name))
    write_gguf(path, keys, tensors, **options)
    return keys, tensors


def quantised(kind: str) -> Callable[[str, np.ndarray], Any]:
    """Matrices in one type, vectors in float32, as usual."""
    return lambda name, x: gguf.GGMLQuantizationType[kind] if x.ndim == 2 else None
