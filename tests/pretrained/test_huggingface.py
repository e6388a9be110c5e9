"""A folder is read in parts, refused with the file and the reason, and written so that the same comes back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_trees_close, random_params
from hf_folders import QWEN3, on_one_device, write_model
from safetensors.numpy import load_file, save_file

from gptgan_jax import TransformerConfig, build_generator
from gptgan_jax.distributed.partitioning import MeshConfig, build_mesh, state_shardings
from gptgan_jax.errors import UserError
from gptgan_jax.pretrained import huggingface
from gptgan_jax.pretrained.huggingface import open_model
from gptgan_jax.pretrained.weights import INDEX_FILE, WEIGHTS_FILE, Weights

GPT2 = TransformerConfig(layers=2, width=12, heads=3, max_positions=16)
SCANNED = TransformerConfig(**QWEN3, scan_layers=True)


@pytest.mark.parametrize("config", [GPT2, TransformerConfig(**QWEN3), SCANNED], ids=["gpt2", "qwen3", "scanned"])
@pytest.mark.parametrize("shard_bytes", [10**9, 2000], ids=["one file", "shards"])
def test_what_is_written_is_read_back_bit_for_bit(config: TransformerConfig, shard_bytes: int, tmp_path: Path) -> None:
    generator, params = write_model(tmp_path, config, shard_bytes=shard_bytes)
    assert (tmp_path / INDEX_FILE).exists() == (shard_bytes == 2000)
    model = open_model(tmp_path)
    model.network.check(config)
    assert_trees_close(model.params(on_one_device(generator)), params, rtol=0, atol=0)
    assert model.tokenizer.vocabulary == generator.vocabulary
    assert model.tokenizer.encode("two cats run") == [4, 5, 10]


def test_no_shard_is_larger_than_asked_for_and_the_index_counts_them_all(tmp_path: Path) -> None:
    write_model(tmp_path, GPT2, shard_bytes=3000)
    files = sorted(tmp_path.glob("*.safetensors"))
    tensors = [load_file(file) for file in files]
    assert len(files) > 2
    assert all(sum(x.nbytes for x in one.values()) <= 3000 for one in tensors)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for one in tensors for x in one.values())
    assert index["weight_map"] == {name: file.name for file, one in zip(files, tensors, strict=True) for name in one}


class Counting(Weights):
    """Notes how many numbers are read at a time."""

    most = 0

    def read(self, name: str, index: Any) -> np.ndarray:
        part = super().read(name, index)
        Counting.most = max(Counting.most, part.size)
        return part


def over_eight_devices(folder: str, scan: bool) -> None:
    """In a process that has them: everything lies where it should, and nothing was read by more than its devices."""
    config = SCANNED if scan else GPT2
    generator, params = write_model(Path(folder), config)
    shapes = on_one_device(generator)
    mesh = build_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    target = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, state_shardings(shapes, mesh)
    )
    huggingface.Weights = Counting
    read = open_model(Path(folder)).params(target)
    assert_trees_close(read, params, rtol=0, atol=0)
    assert jax.tree.map(lambda x: x.sharding, read) == jax.tree.map(lambda x: x.sharding, target)
    largest = max(x.size for x in load_file(Path(folder) / WEIGHTS_FILE).values())
    assert 0 < Counting.most <= largest / 4


@pytest.mark.cases(1)
@pytest.mark.parametrize("scan", [False, True], ids=["unrolled", "scanned"])
def test_each_of_eight_devices_reads_its_own_part(scan: bool, tmp_path: Path) -> None:
    here = Path(__file__).resolve()
    paths = [str(here.parents[2]), str(here.parents[1]), str(here.parent), os.environ.get("PYTHONPATH", "")]
    xla = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    flags = {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", f"import test_huggingface as t; t.over_eight_devices({str(tmp_path)!r}, {scan})"]
    environment = os.environ | flags | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


# ---- what is refused

# What becomes of a file, or of the keys of config.json, and what must be said.
FILES = """
config.json           | gone         | config.json: no such file
config.json           | noise        | config.json: not a JSON file
config.json           | []           | config.json: should hold a JSON object
model.safetensors     | gone         | has neither model.safetensors nor model.safetensors.index.json
model.safetensors     | pickle       | has pytorch_model.bin, a pickle, which is never read as it can run code
model.safetensors     | half         | model.safetensors: no whole safetensors file
model.safetensors     | noise        | model.safetensors: no whole safetensors file
model.safetensors     | int8         | is I8; only F64, F32, F16, BF16 are read
model.safetensors.index.json | {}    | should hold weight_map
model.safetensors.index.json | [[[   | should hold weight_map
model.safetensors.index.json | {"weight_map": {"x": "../x.safetensors"}}  | '../x.safetensors' is no safetensors file
model.safetensors.index.json | {"weight_map": {"x": "pytorch_model.bin"}} | 'pytorch_model.bin' is no safetensors file
model.safetensors.index.json | {"weight_map": {"x": "x.safetensors"}}     | x.safetensors: no such file, though
model.safetensors.index.json | {"weight_map": {"x": "weights.safetensors"}} | tensor x is missing, though
tokenizer.json        | gone         | tokenizer.json: no such file
tokenizer.json        | half         | tokenizer.json: not a tokenizer.json
tokenizer_config.json | {"padded_vocab_size": "many"} | padded_vocab_size 'many' should be a whole number, at least 18
tokenizer_config.json | {"padded_vocab_size": 3}      | padded_vocab_size 3 should be a whole number, at least 18
"""
KEYS = """
{"model_type": "bert"}               | config.json: model_type is 'bert'; what is read is gpt2, llama
{"model_type": null}                 | config.json: model_type is None
{"quantization_config": {"bits": 4}} | quantization_config is {'bits': 4}
{"use_sliding_window": true}         | use_sliding_window is True; what is read is False
{"layer_types": ["full_attention", "sliding_attention"]} | layer_types has others than full_attention
{"layer_types": 3}                   | layer_types has others than full_attention
{"hidden_act": "gelu"}               | hidden_act is 'gelu'; what is read is 'silu'
{"rope_parameters": {"rope_type": "yarn"}} | rope_parameters: rope_type is 'yarn'; what is read is default and llama3
{"rope_parameters": {"rope_type": ["default"]}} | rope_parameters: rope_type is ['default']; what is read is
{"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}} | rope_parameters: partial_rotary_factor is 0.5
{"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}} | rope_parameters: factor is 2.0; with rope_type default only
{"rope_parameters": {"full_attention": {"rope_theta": 1e4}}} | rope_parameters: full_attention is {
{"rope_parameters": {"rope_theta": 2e4}} | rope_theta is 20000, and 10000 outside of it; remove the one that is wrong
{"rope_parameters": {"rope_type": "llama3", "attention_factor": 2}}     | rope_parameters: attention_factor is 2
{"rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 9}} | disagree on rope_scaling (None
{"rope_scaling": {"type": "linear", "factor": 2.0}} | rope_scaling: rope_type is 'linear'
{"rope_scaling": {"type": "dynamic", "factor": 2.0}} | rope_scaling: rope_type is 'dynamic'
{"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}} | rope_type is 'dynamic'
{"partial_rotary_factor": 0.5}       | partial_rotary_factor is 0.5
{"model_type": "smollm3"}            | what is read is gpt2, llama, mistral, qwen2, qwen3 (the Transformer
{"model_type": "gemma3_text"}        | here has not: norms after attention and MLP as well, and a sliding window
{"model_type": "phi3"}               | here has not: queries, keys and values in one matrix
{"model_type": "mistral", "sliding_window": "wide"} | sliding_window should be a whole number above 0, not 'wide'
{"rope_parameters": 3}               | rope_parameters should be an object, not 3
{"hidden_size": "many"}              | hidden_size should be a whole number above 0, not 'many'
{"hidden_size": null}                | hidden_size is missing
{"hidden_size": 0}                   | hidden_size should be a whole number above 0, not 0
{"hidden_size": true}                | hidden_size should be a whole number above 0, not True
{"tie_word_embeddings": 1}           | tie_word_embeddings should be true or false, not 1
{"num_key_value_heads": 3}           | heads 4 is not a multiple of kv_heads 3
{"rms_norm_eps": -1.0}               | greater than 0
{"attention_bias": true}             | attention_bias and mlp_bias
{"intermediate_size": 11}            | model.safetensors: model.layers.0.mlp.down_proj.weight has shape [8, 10]
{"num_hidden_layers": 3}             | tensor model.layers.2.
{"num_hidden_layers": 1}             | model.safetensors: model.layers.1.
{"tie_word_embeddings": false}       | tensor lm_head.weight is missing
{"vocab_size": 17}                   | tokenizer.json has 18 tokens;
{"vocab_size": 21}                   | model.embed_tokens.weight has shape [20, 8]
"""


def table(text: str) -> list[Any]:
    rows = [[cell.strip() for cell in line.split(" | ")] for line in text.strip().splitlines()]
    return [pytest.param(*cells, id=" ".join(cells[:-1])) for cells in rows]


def spoil(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "pickle":
        path.rename(path.with_name("pytorch_model.bin"))
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "noise":
        path.write_bytes(99 * b"\xff")
    elif how == "int8":
        save_file({name: x.astype(np.int8) for name, x in load_file(path).items()}, path)
    else:
        if path.name == INDEX_FILE:  # read where no file has all of the weights
            path.with_name(WEIGHTS_FILE).rename(path.with_name("weights.safetensors"))
        path.write_text(how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_model(folder)
    return folder


def look_through(folder: Path) -> None:
    model = open_model(folder)
    model.check(on_one_device(build_generator(model.network.config, model.tokenizer.vocabulary)))


def assert_refused(folder: Path, says: str) -> None:
    with pytest.raises(UserError) as refused:
        look_through(folder)
    assert says in str(refused.value)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("file", "how", "says"), table(FILES))
def test_a_spoilt_file_is_refused_with_its_name_and_the_reason(
    file: str, how: str, says: str, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "model")
    look_through(tmp_path / "model")
    spoil(tmp_path / "model" / file, how)
    assert_refused(tmp_path / "model", says)


@pytest.mark.parametrize(("change", "says"), table(KEYS))
def test_a_key_that_is_no_good_is_refused_with_the_reason(change: str, says: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | json.loads(change)))
    assert_refused(tmp_path / "model", says)


def test_an_index_beside_a_whole_file_is_not_read_as_in_transformers(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "model")
    stale = dict.fromkeys(load_file(whole / WEIGHTS_FILE), "model-00001-of-00001.safetensors")
    shutil.copy(whole / WEIGHTS_FILE, tmp_path / "model" / "model-00001-of-00001.safetensors")
    (tmp_path / "model" / INDEX_FILE).write_text(json.dumps({"weight_map": stale}))
    with Weights(tmp_path / "model") as weights:
        assert {weights.file_of(name).name for name in weights.names} == {WEIGHTS_FILE}


def test_a_tensor_that_the_network_does_not_have_is_not_ignored_and_a_mask_is(tmp_path: Path) -> None:
    generator, params = write_model(tmp_path, GPT2)
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    mask = {"transformer.h.0.attn.bias": np.ones((1, 1, 16, 16), np.float32)}
    save_file(tensors | mask | {"lm_head.weight": tensors["transformer.wte.weight"]}, tmp_path / WEIGHTS_FILE)
    assert_trees_close(open_model(tmp_path).params(on_one_device(generator)), params, rtol=0, atol=0)
    save_file(tensors | {"transformer.h.0.attn.gate": np.ones(3, np.float32)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(UserError, match=r"transformer\.h\.0\.attn\.gate is no tensor of the network"):
        open_model(tmp_path).params(on_one_device(generator))


def test_a_head_beside_a_tied_table_is_its_copy_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy, as Qwen3-0.6B has, is left out; transformers 5 takes another one instead of the table."""
    generator, params = write_model(tmp_path)
    monkeypatch.setattr(huggingface, "AT_ONCE", 24)  # three rows of eight
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    table = tensors["model.embed_tokens.weight"]
    save_file(tensors | {"lm_head.weight": table}, tmp_path / WEIGHTS_FILE)
    assert_trees_close(open_model(tmp_path).params(on_one_device(generator)), params, rtol=0, atol=0)
    for other in (np.concatenate([table[:-1], table[-1:] + 1]), table[:-1]):
        save_file(tensors | {"lm_head.weight": other}, tmp_path / WEIGHTS_FILE)
        assert_refused(tmp_path, "lm_head.weight is another than model.embed_tokens.weight, and tie_word_embeddings")


def test_an_id_without_a_token_is_written_as_nothing(tmp_path: Path) -> None:
    write_model(tmp_path)
    tokenizer = open_model(tmp_path).tokenizer
    assert tokenizer.vocabulary.size == 20
    assert tokenizer.decode([5, 19, 10]) == "cats run"


def test_the_unknown_token_is_named_though_the_file_that_was_read_named_none(tmp_path: Path) -> None:
    """Readers in JavaScript look for it in tokenizer_config.json alone."""
    write_model(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["unk_token"] == "<unk>"


def test_other_parameters_are_other_files(tmp_path: Path) -> None:
    """It shows that the comparisons above could fail."""
    generator, _ = write_model(tmp_path, GPT2)
    read = open_model(tmp_path).params(on_one_device(generator))
    with pytest.raises(AssertionError):
        assert_trees_close(read, random_params(on_one_device(generator), seed=2))
