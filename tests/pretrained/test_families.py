"""config.json and back: the same network, or one line that says what keeps it from being one of the families."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hf_folders import QWEN3

from gptgan_jax import LstmConfig, TransformerConfig, Vocabulary
from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.families import config_json, family_of, read_network

LLAMA = QWEN3 | {"qk_norm": False}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"width": 12, "heads": 3, "mlp_width": 20, "norm_eps": 1e-3}),
    "gpt2, exact gelu": ("gpt2", {"activation": "gelu", "tied_embeddings": False}),
    "gpt2, relu": ("gpt2", {"activation": "relu"}),
    "llama": ("llama", LLAMA | {"tied_embeddings": False, "rope_theta": 5e5}),
    "llama 3.1": (
        "llama",
        LLAMA | {"rope_scaling": "llama3", "rope_factor": 3.0, "rope_low_turns": 0.5, "rope_original_positions": 9},
    ),
    "llama with biases": ("llama", LLAMA | {"qkv_bias": True, "bias": True}),
    "llama, heads of their own size": ("llama", LLAMA | {"width": 10, "heads": 4, "head_width": 6}),
    "qwen2": ("qwen2", LLAMA | {"qkv_bias": True, "norm_eps": 1e-6}),
    "qwen3": ("qwen3", QWEN3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    family, keys = NETWORKS[name]
    config = TransformerConfig(**keys)
    (tmp_path / "config.json").write_text(json.dumps(config_json(config, Vocabulary(30))))
    network = read_network(tmp_path)
    assert (network.family, network.vocab_size) == (family, 30)
    network.check(config)
    assert family_of(network.config) == family
    assert json.loads((tmp_path / "config.json").read_text()) == config_json(network.config, Vocabulary(30))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (LstmConfig(), "Hugging Face models have no generator.kind lstm"),
        (TransformerConfig(encoder_layers=1), "have no encoder; export a decoder-only generator"),
        (TransformerConfig(heads=4, kv_heads=2), "for gpt2 it would need kv_heads as heads"),
        (TransformerConfig(head_width=8), "for gpt2 it would need head_width as width / heads"),
        (TransformerConfig(activation="swiglu"), "for gpt2 it would need another activation"),
        (TransformerConfig(**(LLAMA | {"norm": "layer"})), "for llama it would need norm 'rms'"),
        (TransformerConfig(**(QWEN3 | {"qkv_bias": True})), "for qwen2 it would need qk_norm False"),
    ],
)
def test_what_none_of_the_families_is_names_what_keeps_it(config: Any, says: str) -> None:
    with pytest.raises(UserError) as refused:
        family_of(config)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("given", "window", "family"),
    [
        ({"sliding_window": None}, None, "llama"),  # the same network where the window never ends
        ({"sliding_window": 9000}, None, "llama"),
        ({"sliding_window": 5000}, 5000, "mistral"),
        ({}, 4096, "mistral"),  # what its absence means in transformers
    ],
)
def test_a_mistral_s_window_is_read_and_written_where_it_cuts(
    given: dict[str, Any], window: int | None, family: str, tmp_path: Path
) -> None:
    content = config_json(TransformerConfig(**(LLAMA | {"max_positions": 9000})), Vocabulary(30))
    (tmp_path / "config.json").write_text(json.dumps(content | {"model_type": "mistral"} | given))
    network = read_network(tmp_path)
    assert (network.config.max_positions, network.config.window) == (9000, window)
    written = config_json(network.config, Vocabulary(30))
    assert (written["model_type"], written.get("sliding_window")) == (family, window)
    shorter = dataclasses.replace(network.config, max_positions=100)
    assert shorter.reach is None
    network.check(shorter)
    network.check(dataclasses.replace(shorter, window=None))  # it spans all of such texts
    if window is not None:
        with pytest.raises(UserError, match=f"generator.window is None, config.json says {window}"):
            network.check(dataclasses.replace(network.config, window=None))


@pytest.mark.parametrize("rope_scaling", ["none", "llama3"])
def test_rotary_keys_are_written_for_both_versions_of_transformers_and_each_is_enough(
    rope_scaling: str, tmp_path: Path
) -> None:
    config = TransformerConfig(**(LLAMA | {"rope_theta": 5e5, "rope_scaling": rope_scaling}))
    content = config_json(config, Vocabulary(30))
    assert content["rope_theta"] == content["rope_parameters"]["rope_theta"] == 5e5
    for left_out in (("rope_theta", "rope_scaling"), ("rope_parameters",)):
        kept = {key: value for key, value in content.items() if key not in left_out}
        (tmp_path / "config.json").write_text(json.dumps(kept))
        read_network(tmp_path).check(config)


OTHER_VALUES: dict[str, Any] = {
    "layers": 3,
    "width": 16,
    "heads": 2,
    "kv_heads": 4,
    "head_width": 4,
    "mlp_width": 12,
    "norm_eps": 1e-3,
    "rope_theta": 99.0,
    "qk_norm": False,
    "tied_embeddings": False,
    "max_positions": 17,
    "qkv_bias": True,
}


@pytest.mark.parametrize(("change", "value"), OTHER_VALUES.items())
def test_every_key_of_a_network_counts(change: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_json(TransformerConfig(**QWEN3), Vocabulary(30))))
    with pytest.raises(UserError, match=r"config\.json says"):
        read_network(tmp_path).check(TransformerConfig(**(QWEN3 | {change: value})))
