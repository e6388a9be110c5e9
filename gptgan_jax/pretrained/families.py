"""config.json of GPT-2, Llama, Mistral, Qwen2 and Qwen3 from and to the configuration of a Transformer.

What a config.json asks for and this project's Transformer does not do is refused; it is never left out silently.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.types import Vocabulary

CONFIG_FILE = "config.json"
REMEDY = "leave `generator` out to take the model's network"
GPT2_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_LLAMA_LIKE = {"norm": "rms", "positions": "rotary", "activation": "swiglu"}
_PLAIN = _LLAMA_LIKE | {"window": None}
# What a network must be to be one of a family; the first that fits is taken.
REQUIRED: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "gpt2",
        {"norm": "layer", "positions": "learned", "qk_norm": False, "qkv_bias": True, "bias": True, "window": None},
    ),
    ("llama", _PLAIN | {"qk_norm": False, "qkv_bias": False, "bias": False}),
    ("llama", _PLAIN | {"qk_norm": False, "qkv_bias": True, "bias": True}),
    ("qwen2", _PLAIN | {"qk_norm": False, "qkv_bias": True, "bias": False}),
    ("qwen3", _PLAIN | {"qk_norm": True, "qkv_bias": False, "bias": False}),
    ("mistral", _LLAMA_LIKE | {"qk_norm": False, "qkv_bias": False, "bias": False}),
)
# What keeps the best known of the other families from being read.
MISSING = {
    "gemma": "embeddings scaled by the square root of the width, norms that scale by 1 + w, and a GELU gate",
    "gemma2": "norms after attention and MLP as well, soft caps on scores and logits, and a sliding window",
    "gemma3": "norms after attention and MLP as well, and a sliding window in five layers of six",
    "gemma3_text": "norms after attention and MLP as well, and a sliding window in five layers of six",
    "mixtral": "a mixture of experts",
    "phi": "attention and MLP side by side, and rotary positions on a part of each head",
    "phi3": "queries, keys and values in one matrix, gate and up in another, and rotary positions scaled by longrope",
    "qwen2_moe": "a mixture of experts",
    "qwen3_moe": "a mixture of experts",
    "smollm3": "layers without rotary positions (no_rope_layers)",
}
# What two configurations may differ in and still be the same network.
FREE = ("kind", "dropout", "dtype", "attention", "remat", "scan_layers", "lora", "kv_heads", "head_width", "mlp_width")


@dataclass(frozen=True)
class Network:
    """What a config.json describes.

    Attributes:
        family: a key of `ARCHITECTURES`.
        config: the network.
        vocab_size: rows of its embedding table.
        source: the file.
    """

    family: str
    config: TransformerConfig
    vocab_size: int
    source: Path

    def check(self, config: Any) -> None:
        """Raises UserError where a generator with that configuration can't take this network's parameters."""
        if not isinstance(config, TransformerConfig):
            raise UserError(f"generator.kind is {config.kind}, {CONFIG_FILE} is of a transformer; {REMEDY}")
        names = [field.name for field in dataclasses.fields(self.config) if field.name not in FREE]
        for name in (*names, "key_value_heads", "head_size", "mlp_size"):
            mine, theirs = getattr(config, name), getattr(self.config, name)
            shorter = name == "max_positions" and config.positions == "rotary" and mine < theirs
            # A window does nothing to texts that it spans.
            spanned = name == "window" and mine is None and config.max_positions <= (theirs or 0)
            if mine != theirs and not shorter and not spanned:
                raise UserError(f"generator.{name} is {mine}, {CONFIG_FILE} says {theirs}; {REMEDY}")


def read_network(folder: Path) -> Network:
    """Reads FOLDER/config.json.

    Raises:
        UserError: no such file, none of the families, or something that the Transformer here does not do.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; a Hugging Face model's folder has one")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: should hold a JSON object")
    return network_of(content, path)


def network_of(content: Mapping[str, Any], path: Path) -> Network:
    """The network that the content of a config.json describes.

    Args:
        content: of the file.
        path: of the file, for messages.

    Raises:
        UserError: see `read_network`.
    """
    keys = _Keys(content, str(path))
    family = content.get("model_type")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        missing = MISSING.get(family) if isinstance(family, str) else None
        because = f" (the Transformer here has not: {missing})" if missing else ""
        raise UserError(f"{path}: model_type is {family!r}; what is read is {', '.join(ARCHITECTURES)}{because}")
    keys.must("quantization_config", None)
    network = _gpt2(keys) if family == "gpt2" else _llama(keys, family)
    if family == "mistral" and keys.content.get("sliding_window", 0) is not None:
        window = keys.whole("sliding_window", 4096)  # what its absence means
        network["window"] = window if window < network["max_positions"] else None
    try:
        config = TransformerConfig(**network)
    except UserError as error:
        raise error.within(str(path)) from None
    return Network(family, config, keys.whole("vocab_size"), path)


class _Keys:
    """The keys of a config.json, each read with its type."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self.content = content
        self.where = where

    def whole(self, key: str, default: int | None = None) -> int:
        value = self._given(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise UserError(f"{self.where}: {key} should be a whole number above 0, not {repr(value)[:80]}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self._given(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.where}: {key} should be a number, not {repr(value)[:80]}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._given(key, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: {key} should be true or false, not {repr(value)[:80]}")
        return value

    def must(self, key: str, *allowed: Any) -> None:
        """The first of the allowed is what its absence means."""
        value = self.content.get(key, allowed[0])
        if value not in allowed:
            known = " or ".join(repr(one) for one in allowed)
            raise UserError(f"{self.where}: {key} is {repr(value)[:80]}; what is read is {known}")

    def section(self, key: str) -> "_Keys | None":
        value = self.content.get(key)
        if value is not None and not isinstance(value, dict):
            raise UserError(f"{self.where}: {key} should be an object, not {repr(value)[:80]}")
        return _Keys(value, f"{self.where}: {key}") if value else None

    def _given(self, key: str, default: Any) -> Any:
        value = self.content.get(key)
        if value is None:
            value = default
        if value is None:
            raise UserError(f"{self.where}: {key} is missing")
        return value


def _gpt2(keys: _Keys) -> dict[str, Any]:
    keys.must("activation_function", *GPT2_ACTIVATIONS)
    keys.must("scale_attn_weights", True)
    keys.must("scale_attn_by_inverse_layer_idx", False)
    keys.must("add_cross_attention", False)
    width, heads = keys.whole("n_embd"), keys.whole("n_head")
    return {
        "layers": keys.whole("n_layer"),
        "width": width,
        "heads": heads,
        "mlp_width": _unless(keys.whole("n_inner", 4 * width), 4 * width),
        "norm_eps": keys.number("layer_norm_epsilon", 1e-5),
        "activation": GPT2_ACTIVATIONS[keys.content.get("activation_function", "gelu_new")],
        "max_positions": keys.whole("n_positions"),
        "tied_embeddings": keys.flag("tie_word_embeddings", True),
    }


def _llama(keys: _Keys, family: str) -> dict[str, Any]:
    keys.must("hidden_act", "silu")
    keys.must("use_sliding_window", False, None)
    kinds = keys.content.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise UserError(f"{keys.where}: layer_types has others than full_attention; only that is read")
    keys.must("partial_rotary_factor", 1.0, None)
    biased = keys.flag("attention_bias", False)
    if biased != keys.flag("mlp_bias", False) or (biased and family != "llama"):
        raise UserError(f"{keys.where}: attention_bias and mlp_bias are read where both are true, in a Llama, or false")
    width, heads = keys.whole("hidden_size"), keys.whole("num_attention_heads")
    # What its absence means: no grouping for Llama, a number of its own for each of the others.
    kv_heads = keys.whole("num_key_value_heads", heads if family == "llama" else None)
    head = keys.whole("head_dim", 128 if family == "qwen3" else width // heads)
    return _LLAMA_LIKE | {
        "layers": keys.whole("num_hidden_layers"),
        "width": width,
        "heads": heads,
        "kv_heads": _unless(kv_heads, heads),
        "head_width": head if width % heads else _unless(head, width // heads),
        "mlp_width": keys.whole("intermediate_size"),
        "norm_eps": keys.number("rms_norm_eps", 1e-6),
        "max_positions": keys.whole("max_position_embeddings"),
        "qkv_bias": biased or family == "qwen2",
        "bias": biased,
        "qk_norm": family == "qwen3",
        "tied_embeddings": keys.flag("tie_word_embeddings", False),
        **_rope(keys),
    }


# What rope_parameters may hold; all else would be left out silently. `type` is an older name of rope_type.
_ROPE_KEYS = {
    "default": ("rope_type", "type", "rope_theta"),
    "llama3": (
        *("rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor"),
        "original_max_position_embeddings",
    ),
}


def _rope(keys: _Keys) -> dict[str, Any]:
    """The rotary keys, as transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters) writes them.

    Programs differ in which they read, so those that a file has must say the same.
    """
    given = [section for name in ("rope_parameters", "rope_scaling") if (section := keys.section(name))]
    first, *others = [_rope_of(section, keys) for section in given or [_Keys({}, keys.where)]]
    for other in others:
        for name in first | other:
            if first.get(name) != other.get(name):
                raise UserError(
                    f"{keys.where}: rope_parameters and rope_scaling disagree on {name} ({first.get(name)} and "
                    f"{other.get(name)}); remove the one that is wrong"
                )
    return first


def _rope_of(rope: _Keys, keys: _Keys) -> dict[str, Any]:
    kind = rope.content.get("rope_type", rope.content.get("type", "default"))
    if not isinstance(kind, str) or kind not in _ROPE_KEYS:
        raise UserError(f"{rope.where}: rope_type is {kind!r}; what is read is {' and '.join(_ROPE_KEYS)}")
    rope.must("partial_rotary_factor", 1.0, None)
    for name, value in rope.content.items():
        if name not in (*_ROPE_KEYS[kind], "partial_rotary_factor") and value is not None:
            raise UserError(
                f"{rope.where}: {name} is {repr(value)[:80]}; with rope_type {kind} only "
                f"{', '.join(_ROPE_KEYS[kind])} are read"
            )
    usual = keys.number("rope_theta", 10000.0)
    theta = rope.number("rope_theta", usual)
    if theta != usual and keys.content.get("rope_theta") is not None:
        raise UserError(
            f"{rope.where}: rope_theta is {theta:g}, and {usual:g} outside of it; remove the one that is wrong"
        )
    if kind == "default":
        return {"rope_theta": theta}
    return {
        "rope_theta": theta,
        "rope_scaling": "llama3",
        "rope_factor": rope.number("factor", 8.0),
        "rope_low_turns": rope.number("low_freq_factor", 1.0),
        "rope_high_turns": rope.number("high_freq_factor", 4.0),
        "rope_original_positions": rope.whole("original_max_position_embeddings"),
    }


def _unless(value: int, usual: int) -> int | None:
    return None if value == usual else value


# ---- out


def family_of(config: Any) -> str:
    """The family that has this network.

    Raises:
        UserError: none has; the message says what keeps it from the nearest.
    """
    if not isinstance(config, TransformerConfig):
        raise UserError(f"Hugging Face models have no generator.kind {config.kind}; export a transformer")
    if config.encoder_layers:
        raise UserError("Hugging Face models of these families have no encoder; export a decoder-only generator")
    misfits: list[tuple[str, list[str]]] = []
    for family, required in REQUIRED:
        lacks = [f"{name} {value!r}" for name, value in required.items() if getattr(config, name) != value]
        if family == "gpt2":
            lacks += ["kv_heads as heads"] if config.group != 1 else []
            lacks += ["head_width as width / heads"] if config.head_size * config.heads != config.width else []
            lacks += ["another activation"] if config.activation == "swiglu" else []
        if not lacks:
            return family
        misfits.append((family, lacks))
    nearest, lacks = min(misfits, key=lambda misfit: len(misfit[1]))
    known = ", ".join(ARCHITECTURES)
    raise UserError(f"this generator is none of {known}; for {nearest} it would need {', '.join(lacks)}")


def config_json(config: TransformerConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """What config.json says of a generator, for transformers 4 and 5.

    Raises:
        UserError: see `family_of`.
    """
    family = family_of(config)
    common = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        "vocab_size": vocabulary.size,
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.eos_id,
        "pad_token_id": vocabulary.pad_id,
        "tie_word_embeddings": config.tied_embeddings,
        "torch_dtype": "float32",
        "initializer_range": 0.02,
    }
    if family == "gpt2":
        theirs = {ours: name for name, ours in reversed(GPT2_ACTIVATIONS.items())}
        return common | {
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.mlp_size,
            "n_positions": config.max_positions,
            "activation_function": theirs[config.activation],
            "layer_norm_epsilon": config.norm_eps,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout),
        }
    scaling: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling == "llama3":
        scaling = {
            "rope_type": "llama3",
            "factor": config.rope_factor,
            "low_freq_factor": config.rope_low_turns,
            "high_freq_factor": config.rope_high_turns,
            "original_max_position_embeddings": config.rope_original_positions,
        }
    return common | {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.mlp_size,
        "max_position_embeddings": config.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if scaling["rope_type"] == "default" else scaling,
        "rope_parameters": {"rope_theta": config.rope_theta} | scaling,
        **({"attention_bias": config.bias, "mlp_bias": config.bias} if family == "llama" else {}),
        **({"attention_bias": False} if family == "qwen3" else {}),
        **({"use_sliding_window": False} if family.startswith("qwen") else {}),
        **({"sliding_window": config.window} if family == "mistral" else {}),
    }
