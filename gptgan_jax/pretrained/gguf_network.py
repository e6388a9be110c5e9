"""The network that a GGUF file describes, and where its parameters lie there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptgan_jax.errors import UserError
from gptgan_jax.layers.rotary import frequencies
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.pretrained.families import MISSING
from gptgan_jax.pretrained.gguf_file import GgufFile
from gptgan_jax.pretrained.layouts import Shape

_LLAMA_LIKE: dict[str, Any] = {"norm": "rms", "positions": "rotary", "activation": "swiglu"}
_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
_FACTORS = "rope_freqs.weight"
# Keys of an architecture that change nothing of what is computed, or are read below; any other is refused.
_KNOWN = {
    *("vocab_size", "context_length", "embedding_length", "block_count", "feed_forward_length", "tensor_data_layout"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.sliding_window"),
    *("rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"),
    *("rope.scaling.original_context_length", "rope.scaling.finetuned", "expert_count", "expert_used_count"),
}
# Names in Hugging Face files (without prefix) and here.
_OUTSIDE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}
_INSIDE = {
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
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


@dataclass(frozen=True)
class GgufNetwork:
    """What a file describes.

    Attributes:
        architecture: as llama.cpp calls it.
        config: the network.
        vocab_size: rows of its embedding table.
        notes: a line each on what is narrower here than in the file.
    """

    architecture: str
    config: TransformerConfig
    vocab_size: int
    notes: tuple[str, ...]


def network_of(file: GgufFile) -> GgufNetwork:
    """Reads the keys of the network.

    Raises:
        UserError: an architecture or a key that is not known, or something that the Transformer here does not do.
    """
    name = file.text("general.architecture")
    if name not in _ARCHITECTURES:
        because = f" (the Transformer here has not: {MISSING[name]})" if name in MISSING else ""
        raise UserError(
            f"{file.path}: general.architecture is {name!r}; what is read is {', '.join(_ARCHITECTURES)}{because}"
        )
    for key in file.fields:
        if key.startswith(f"{name}.") and key.removeprefix(f"{name}.") not in _KNOWN:
            raise UserError(f"{file.path}: {key} is {repr(file.fields[key])[:60]}, which is not known here")
    if file.whole(f"{name}.expert_count", 0):
        raise UserError(f"{file.path}: {name}.expert_count: the Transformer here has no mixture of experts")
    if "token_embd.weight" not in file.names:
        raise UserError(f"{file.path}: token_embd.weight is missing; only a whole model is read")
    keys = _gpt2(file) if name == "gpt2" else _llama(file, name)
    positions = file.whole(f"{name}.context_length")
    window = file.whole(f"{name}.attention.sliding_window", 0)
    notes: tuple[str, ...] = ()
    if 0 < window < positions:
        if name == "llama" and not keys["bias"]:  # a Mistral's is in every layer
            keys["window"] = window
        else:
            notes = (f"max_positions is {window}, not {positions}: its sliding window is no longer",)
            positions = window
    common: dict[str, Any] = {
        "layers": file.whole(f"{name}.block_count"),
        "width": file.whole(f"{name}.embedding_length"),
        "mlp_width": file.whole(f"{name}.feed_forward_length"),
        "max_positions": positions,
    }
    try:
        config = TransformerConfig(**common, **keys)
    except UserError as error:
        raise error.within(str(file.path)) from None
    return GgufNetwork(name, config, file.shape("token_embd.weight")[0], notes)


def _gpt2(file: GgufFile) -> dict[str, Any]:
    heads = file.whole("gpt2.attention.head_count")
    if file.whole("gpt2.attention.head_count_kv", heads) != heads:
        raise UserError(f"{file.path}: gpt2.attention.head_count_kv is another than head_count")
    tied = "output.weight" not in file.names or _same(file, "output.weight", "token_embd.weight")
    eps = file.number("gpt2.attention.layer_norm_epsilon")
    return {"heads": heads, "norm_eps": eps, "activation": "gelu_tanh", "tied_embeddings": tied}


def _same(file: GgufFile, one: str, other: str) -> bool:
    return file.shape(one) == file.shape(other) and np.array_equal(file.read(one), file.read(other))


def _llama(file: GgufFile, name: str) -> dict[str, Any]:
    heads, width = file.whole(f"{name}.attention.head_count"), file.whole(f"{name}.embedding_length")
    if heads < 1:
        raise UserError(f"{file.path}: {name}.attention.head_count is {heads}")
    size = file.whole(f"{name}.attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := file.whole(f"{name}.{key}", size)) != size:
            raise UserError(f"{file.path}: {name}.{key} is {other}; only {size}, a whole head, is read")
    biased = name == "llama" and "blk.0.attn_output.bias" in file.names
    return _LLAMA_LIKE | {
        "heads": heads,
        "kv_heads": file.whole(f"{name}.attention.head_count_kv", heads),
        "head_width": size,
        "norm_eps": file.number(f"{name}.attention.layer_norm_rms_epsilon"),
        "qkv_bias": biased or name == "qwen2",
        "bias": biased,
        "qk_norm": name == "qwen3",
        "tied_embeddings": "output.weight" not in file.names,
        **_rope(file, name, size),
    }


def _rope(file: GgufFile, name: str, size: int) -> dict[str, Any]:
    theta = file.number(f"{name}.rope.freq_base", 10000.0)
    kind = file.text(f"{name}.rope.scaling.type", "none")
    factor = file.number(f"{name}.rope.scaling.factor", 1.0) * file.number(f"{name}.rope.scale_linear", 1.0)
    if kind != "none" and (kind != "linear" or factor not in (0.0, 1.0)):
        raise UserError(f"{file.path}: {name}.rope.scaling.type is {kind!r}, factor {factor:g}; only Llama 3's is read")
    if kind == "none" and factor not in (0.0, 1.0):
        raise UserError(f"{file.path}: {name}.rope.scaling.factor is {factor:g}; only Llama 3's scaling is read")
    if _FACTORS not in file.names:
        return {"rope_theta": theta}
    # The file has the outcome of Llama 3's scaling for each pair of features; these are the numbers it comes from.
    slower = file.read(_FACTORS).astype(np.float64)
    factor = float(slower.max())
    expected = frequencies(size, theta) / frequencies(size, theta, "llama3", factor, 1.0, 4.0, 8192)
    if slower.shape != expected.shape or not np.allclose(slower, expected, rtol=1e-4):
        raise UserError(
            f"{file.path}: {_FACTORS} slows positions in another way than Llama 3.1 to 3.3; only that is read"
        )
    return {
        "rope_theta": theta,
        "rope_scaling": "llama3",
        "rope_factor": factor,
        "rope_low_turns": 1.0,
        "rope_high_turns": 4.0,
        "rope_original_positions": 8192,
    }


# ---- tensors


@dataclass(frozen=True)
class Placed:
    """A tensor of a Hugging Face file, as it lies in a GGUF file.

    Attributes:
        name: there.
        shape: there.
        undo: from what is read there to what it is in the Hugging Face file.
    """

    name: str
    shape: Shape
    undo: Callable[[np.ndarray], np.ndarray]


def placed(network: GgufNetwork, needed: Mapping[str, Shape], file: GgufFile) -> dict[str, Placed]:
    """Where the tensors of a Hugging Face file lie, by their names there, in the order of the GGUF file.

    Args:
        network: of the file.
        needed: names and shapes in the Hugging Face file.
        file: the GGUF file.

    Raises:
        UserError: a tensor is missing, of another shape, or left over.
    """
    found: dict[str, tuple[str, Placed]] = {}
    for theirs, shape in needed.items():
        name = _name(theirs)
        turned = network.architecture == "gpt2" and len(shape) == 2 and name.startswith("blk.")
        one = Placed(name, shape[::-1] if turned else shape, _undo(network, name, turned))
        if name not in file.names:
            raise UserError(f"{file.path}: tensor {name} is missing")
        if file.shape(name) != one.shape:
            raise UserError(
                f"{file.path}: {name} has shape {list(file.shape(name))}; its keys ask for {list(one.shape)}"
            )
        found[name] = theirs, one
    tied = network.config.tied_embeddings
    for name in file.names:
        if name not in found and name != _FACTORS and not (name == "output.weight" and tied):
            raise UserError(
                f"{file.path}: {name} is no tensor of a network of {network.architecture} as it is read here"
            )
    return dict(found[name] for name in file.names if name in found)


def _name(theirs: str) -> str:
    """The name of a tensor of a Hugging Face file in a GGUF file."""
    stem, _, end = theirs.rpartition(".")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.{end}"
    number, _, inside = stem.removeprefix("model.layers.").removeprefix("transformer.h.").partition(".")
    return f"blk.{number}.{_INSIDE[inside]}.{end}"


def _undo(network: GgufNetwork, name: str, turned: bool) -> Callable[[np.ndarray], np.ndarray]:
    kind = name.split(".")[-2]
    heads = {"attn_q": network.config.heads, "attn_k": network.config.key_value_heads}.get(kind)
    if network.architecture == "llama" and heads is not None:

        def paired(x: np.ndarray) -> np.ndarray:
            """llama.cpp turns features 2 i and 2 i + 1 of a Llama's head together; here they are i and i + E/2."""
            return x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)

        return paired
    return np.transpose if turned else np.asarray
