"""A GGUF file becomes the Hugging Face folder that it was made from, to the bit and to the token; or one line."""

import itertools
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gptgan_jax.cli import main
from gptgan_jax.data.tokenizers import read_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.gguf_import import folder_of, import_gguf
from gptgan_jax.pretrained.hub import from_the_root, with_network
from gptgan_jax.pretrained.huggingface import open_model

gguf = pytest.importorskip("gguf", reason="GGUF files need the package gguf")
from gguf_files import (  # noqa: E402
    CONFIGS,
    ROWS,
    SPECIAL,
    TEXTS,
    byte_level,
    finish,
    model_keys,
    put_keys,
    quantised,
    tensors_of,
    tokenizer_keys,
    write_file,
    write_folder,
    write_gguf,
)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_folder_that_a_file_was_made_from_comes_back(name: str, tmp_path: Path) -> None:
    write_file(tmp_path / "model.gguf", tmp_path / "in", name)
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    ours, theirs = open_model(tmp_path / "out"), open_model(tmp_path / "in")
    assert ours.network.config == theirs.network.config
    assert ours.network.family == theirs.network.family
    assert ours.network.vocab_size == theirs.network.vocab_size == ROWS
    expected = load_file(tmp_path / "in/model.safetensors")
    found = load_file(tmp_path / "out/model.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_a_file_of_llama_3_keeps_how_its_positions_are_slowed(tmp_path: Path) -> None:
    keys, tensors = write_file(tmp_path / "model.gguf", tmp_path / "in", "llama tied, slowed")
    assert "rope_freqs.weight" in tensors
    tensors["rope_freqs.weight"] = tensors["rope_freqs.weight"] * np.float32(1.01)
    write_gguf(tmp_path / "other.gguf", keys, tensors)
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["rope_parameters"]["factor"] == 3.0
    assert_refused(tmp_path / "other.gguf", tmp_path / "other", "slows positions in another way than Llama 3.1")


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_1", "Q5_0"])
def test_what_is_written_is_exactly_what_the_file_holds(kind: str, tmp_path: Path) -> None:
    _, tensors = write_file(tmp_path / "model.gguf", tmp_path / "in", "qwen2", kind=quantised(kind))
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    how = gguf.GGMLQuantizationType[kind]
    for theirs, ours in [("token_embd", "model.embed_tokens"), ("blk.1.ffn_down", "model.layers.1.mlp.down_proj")]:
        exact = gguf.dequantize(gguf.quantize(tensors[f"{theirs}.weight"], how), how)
        assert str(found[f"{ours}.weight"].dtype) == {"F16": "float16", "BF16": "bfloat16"}.get(kind, "float32")
        np.testing.assert_array_equal(found[f"{ours}.weight"].astype(np.float32), exact)
    assert str(found["model.norm.weight"].dtype) == "float32"
    assert json.loads((tmp_path / "out/config.json").read_text())["torch_dtype"] == "float32"


def test_dtype_rounds_every_tensor(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_file(tmp_path / "model.gguf", tmp_path / "in", "qwen2", kind=quantised("Q8_0"))
    assert main(["import", f"gguf:{tmp_path}/model.gguf", f"{tmp_path}/out", "--dtype", "bfloat16"]) == 0
    assert "--init_from hf:" in capsys.readouterr().out
    assert {str(x.dtype) for x in load_file(tmp_path / "out/model.safetensors").values()} == {"bfloat16"}
    assert json.loads((tmp_path / "out/config.json").read_text())["torch_dtype"] == "bfloat16"


def test_a_head_that_a_gpt2_s_file_repeats_is_tied_and_another_is_not(tmp_path: Path) -> None:
    """The converter writes the embeddings a second time as the output layer."""
    keys, tensors = write_file(tmp_path / "model.gguf", tmp_path / "in", "gpt2")
    same = tensors | {"output.weight": tensors["token_embd.weight"]}
    write_gguf(tmp_path / "same.gguf", keys, same)
    write_gguf(tmp_path / "other.gguf", keys, same | {"output.weight": 2 * tensors["token_embd.weight"]})
    import_gguf(tmp_path / "same.gguf", tmp_path / "same")
    import_gguf(tmp_path / "other.gguf", tmp_path / "other")
    assert open_model(tmp_path / "same").network.config.tied_embeddings
    assert "lm_head.weight" not in load_file(tmp_path / "same/model.safetensors")
    assert not open_model(tmp_path / "other").network.config.tied_embeddings


@pytest.mark.parametrize(("window", "read"), [(0, None), (15, 15), (16, None), (99, None)])
def test_a_mistrals_window_is_read_where_it_cuts(window: int, read: int | None, tmp_path: Path) -> None:
    keys, tensors = write_file(tmp_path / "model.gguf", tmp_path / "in", "llama")
    write_gguf(tmp_path / "window.gguf", keys | {"llama.attention.sliding_window": window}, tensors)
    assert import_gguf(tmp_path / "window.gguf", tmp_path / "out") == ()
    network = open_model(tmp_path / "out").network
    assert (network.config.max_positions, network.config.window) == (16, read)
    assert network.family == ("llama" if read is None else "mistral")


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama with biases"])
def test_a_window_of_unknown_layers_shortens_the_texts_and_says_so(name: str, tmp_path: Path) -> None:
    keys, tensors = write_file(tmp_path / "model.gguf", tmp_path / "in", name)
    key = f"{keys['general.architecture']}.attention.sliding_window"
    write_gguf(tmp_path / "short.gguf", keys | {key: 9}, tensors)
    (note,) = import_gguf(tmp_path / "short.gguf", tmp_path / "out")
    assert note == "max_positions is 9, not 16: its sliding window is no longer"
    config = open_model(tmp_path / "out").network.config
    assert (config.max_positions, config.window) == (9, None)


def test_a_file_is_converted_once_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keys, tensors = write_file(tmp_path / "model.gguf", tmp_path / "in", "llama")
    said: list[str] = []
    folder = folder_of(f"gguf:{tmp_path}/model.gguf", said.append)
    assert folder_of(f"gguf:{tmp_path}/model.gguf", said.append) == folder
    assert len(said) == 1
    assert str(folder) in said[0]
    open_model(folder).network.check(CONFIGS["llama"])
    write_gguf(tmp_path / "model.gguf", keys | {"general.name": "longer"}, tensors)
    assert folder_of(f"gguf:{tmp_path}/model.gguf", said.append) != folder


def test_a_run_starts_from_a_file_as_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_file(tmp_path / "model.gguf", tmp_path / "in", "llama")
    started = with_network({"init_from": f"gguf:{tmp_path}/model.gguf"})
    assert started["generator"] == with_network({"init_from": f"hf:{tmp_path}/in"})["generator"]
    with pytest.raises(UserError, match=r"init_from: .*none\.gguf: no such file"):
        with_network({"init_from": f"gguf:{tmp_path}/none.gguf"})
    monkeypatch.chdir(tmp_path)
    assert from_the_root("gguf:model.gguf") == f"gguf:{tmp_path}/model.gguf"


# ---- tokenizers


def imported_tokenizer(tmp_path: Path, changes: dict[str, Any]) -> Path:
    """A folder, of a file of a tiny network with other keys of its tokenizer."""
    content = write_folder(tmp_path / "in", "qwen2")
    keys = model_keys(content, "qwen2") | tokenizer_keys(byte_level(), ROWS) | changes
    write_gguf(
        tmp_path / "model.gguf",
        {k: v for k, v in keys.items() if v is not None},
        tensors_of(tmp_path / "in", content, "qwen2"),
    )
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    return tmp_path / "out"


def test_texts_have_the_tokens_that_the_original_tokenizer_gives_them(tmp_path: Path) -> None:
    folder = imported_tokenizer(tmp_path, {})
    ours, theirs = open_model(folder).tokenizer, byte_level()
    theirs.encode_special_tokens = True
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(ours.encode(text)) == text
    assert ours.vocabulary.size == ROWS
    assert ours.backend.get_vocab_size() == theirs.get_vocab_size()  # what fills the table up is no token
    special = {token.content for token in ours.backend.get_added_tokens_decoder().values() if token.special}
    assert special == set(SPECIAL)


def test_names_ends_and_the_chat_template_are_written(tmp_path: Path) -> None:
    folder = imported_tokenizer(tmp_path, {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.unknown_token_id": 0})
    names = json.loads((folder / "tokenizer_config.json").read_text())
    assert [names[f"{role}_token"] for role in ("bos", "eos", "pad", "unk")] == [SPECIAL[i] for i in (1, 2, 0, 0)]
    assert names["chat_template"].startswith("{% for")
    assert names["model_max_length"] == 16
    generation = json.loads((folder / "generation_config.json").read_text())
    # The end of text; the end of a turn that the file names; what is called as an end is called.
    assert generation == {"bos_token_id": 1, "eos_token_id": [2, 5, 0], "pad_token_id": 0}
    config = json.loads((folder / "config.json").read_text())
    assert [config[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [1, 2, 0]


@pytest.mark.parametrize("kind", [1, 4, 5], ids=["normal", "user-defined", "unused"])
def test_an_end_is_known_by_its_name_whatever_its_type(kind: int, tmp_path: Path) -> None:
    types = tokenizer_keys(byte_level(), ROWS)["tokenizer.ggml.token_type"]
    types = [kind, types[1], kind, *types[3:]]
    folder = imported_tokenizer(tmp_path, {"tokenizer.ggml.token_type": types, "tokenizer.ggml.eos_token_id": 5})
    ours = read_tokenizer(folder / "tokenizer.json")
    assert ours.vocabulary.ends == (5, 0, 2)
    assert {0, 2}.isdisjoint(ours.encode("".join(SPECIAL)))
    assert ours.decode([*ours.encode("two"), 2, *ours.encode("cats")]) == "two"


def test_several_templates_are_kept_by_their_names(tmp_path: Path) -> None:
    folder = imported_tokenizer(tmp_path, {"tokenizer.chat_template.tool_use": "tools"})
    found = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert [one["name"] for one in found] == ["default", "tool_use"]
    assert found[1]["template"] == "tools"


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({}, [], []),
        ({"tokenizer.ggml.add_bos_token": True}, [1], []),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}, [1], [2]),
        ({"tokenizer.ggml.add_bos_token": None}, [], []),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}, [1], []),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None}, [], []),
    ],
)
def test_what_is_put_around_a_text_is_as_the_file_says(
    changes: dict[str, Any], before: list[int], after: list[int], tmp_path: Path
) -> None:
    backend = read_tokenizer(imported_tokenizer(tmp_path, changes) / "tokenizer.json").backend
    alone = backend.encode("cats", add_special_tokens=False).ids
    assert backend.encode("cats").ids == before + alone + after


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, {}),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.pre": "llama-bpe"}, {}),
        ({"tokenizer.ggml.pre": "llama-bpe"}, {"add_bos_token": False}),
        ({"tokenizer.ggml.add_bos_token": True}, {"add_bos_token": True}),
        ({"tokenizer.ggml.add_eos_token": True}, {"add_eos_token": True}),
    ],
)
def test_the_config_says_what_is_put_around_a_text_only_where_llama_cpp_would_do_otherwise(
    changes: dict[str, Any], said: dict[str, bool], tmp_path: Path
) -> None:
    """A converter of 2025 takes no SmolLM that says it: it writes the key itself, and refuses to write one twice."""
    folder = imported_tokenizer(tmp_path, changes)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert {key: value for key, value in config.items() if key.startswith("add_")} == said


PIECES = {
    "gpt-2": ["It", "'s", " 1234", " o", "'", "Clock", ";", " ", " WE", "'", "LL", "\n\n", "\t", "猫", "."],
    "smollm": [
        "It",
        "'s",
        " ",
        "1",
        "2",
        "3",
        "4",
        " o",
        "'",
        "Clock",
        ";",
        " ",
        " WE",
        "'",
        "LL",
        "\n\n",
        "\t",
        "猫",
        ".",
    ],
    "llama-bpe": ["It", "'s", " ", "123", "4", " o", "'Clock", ";", " ", " WE", "'LL", "\n\n", "\t猫", "."],
    "qwen2": ["It", "'s", " ", "1", "2", "3", "4", " o", "'Clock", ";", " ", " WE", "'LL", "\n\n", "\t猫", "."],
    "tekken": ["It", "'s", " ", "1", "2", "3", "4", " o", "'Clock", ";", " ", " WE", "'LL", "\n\n", "\t猫", "."],
}


@pytest.mark.parametrize("pre", PIECES)
def test_text_is_split_as_the_file_names_it(pre: str, tmp_path: Path) -> None:
    backend = read_tokenizer(imported_tokenizer(tmp_path, {"tokenizer.ggml.pre": pre}) / "tokenizer.json").backend
    text = "It's 1234 o'Clock;  WE'LL\n\n\t猫."
    spans = [span for _, span in backend.pre_tokenizer.pre_tokenize_str(text)]
    assert [text[start:end] for start, end in spans] == PIECES[pre]
    composed = backend.normalizer is not None and backend.normalizer.normalize_str("e\u0301") == "\u00e9"
    assert composed == (pre == "qwen2")


SENTENCEPIECE = {
    "a": -1.0, "b": -2.0, "c": -3.0, "▁": -4.0, "ab": -5.0, "bc": -6.0, "▁a": -7.0, "abc": -8.0, "cab": -9.0,
    "▁ab": -10.0, "▁▁": -11.0, "aa": -12.0,
}  # fmt: skip


def sentencepiece_keys() -> dict[str, Any]:
    byte_tokens = [f"<0x{i:02X}>" for i in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *byte_tokens, *SENTENCEPIECE, "<tool>"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(SENTENCEPIECE), 4],
        "tokenizer.ggml.scores": [0.0] * 259 + list(SENTENCEPIECE.values()) + [-100.0],
        "tokenizer.ggml.add_bos_token": None,
        "tokenizer.ggml.padding_token_id": None,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def as_sentencepiece(text: str, tokens: Sequence[str]) -> list[str]:
    """Its algorithm at its plainest: join the two neighbours whose whole has the best score, the leftmost of equals."""
    pieces = list(("▁" + text).replace(" ", "▁"))
    while True:
        pairs = [(SENTENCEPIECE.get(a + b, -np.inf), -i) for i, (a, b) in enumerate(itertools.pairwise(pieces))]
        best, at = max(pairs, default=(-np.inf, 0))
        if best == -np.inf:
            break
        pieces[-at : 2 - at] = ["".join(pieces[-at : 2 - at])]
    known = [[piece] if piece in tokens else [f"<0x{byte:02X}>" for byte in piece.encode()] for piece in pieces]
    return [token for group in known for token in group]


def test_a_sentencepiece_vocabulary_gives_the_tokens_that_sentencepiece_would(tmp_path: Path) -> None:
    keys = sentencepiece_keys()
    backend = read_tokenizer(imported_tokenizer(tmp_path, keys) / "tokenizer.json").backend
    rng = np.random.default_rng(0)
    texts = ["", " ", "abc", "cab cab", "猫a<s>", *("".join(rng.choice(list("abc  "), 12)) for _ in range(200))]
    for text in texts:
        expected = as_sentencepiece(text, keys["tokenizer.ggml.tokens"]) if text else []
        found = backend.encode(text, add_special_tokens=False)
        assert found.tokens == expected, text
        assert backend.decode(found.ids) == text
    assert backend.encode("abc").ids[0] == 1  # <s>, where the file does not say
    backend.encode_special_tokens = False
    assert backend.encode("<tool>a</s>", add_special_tokens=False).tokens == ["<tool>", "▁a", "</s>"]


# ---- what is refused


def assert_refused(path: Path, out: Path, says: str) -> None:
    with pytest.raises(UserError) as refused:
        import_gguf(path, out)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not out.exists()
    assert not [name for name in out.parent.iterdir() if name.name.startswith(f".{out.name}")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder / "model.gguf", *write_file(folder / "model.gguf", folder / "in", "llama")


CHANGED_KEYS: dict[str, Any] = {
    "general.architecture is 'gemma3'; what is read is llama, qwen2, qwen3, gpt2 (the Transformer": {
        "general.architecture": "gemma3"
    },
    "general.architecture is 'mamba'; what is read is": {"general.architecture": "mamba"},
    "holds 'adapter'; only a whole model is read": {"general.type": "adapter"},
    "is one of 3 parts of a model; join them": {"split.count": 3},
    "llama.attention.scale is 0.5, which is not known here": {"llama.attention.scale": 0.5},
    "llama.expert_count: the Transformer here has no mixture": {"llama.expert_count": 8},
    "llama.rope.dimension_count is 4; only 8, a whole head": {"llama.rope.dimension_count": 4},
    "llama.rope.scaling.type is 'yarn', factor 4": {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
    },
    "llama.rope.scaling.type is 'linear', factor 2": {
        "llama.rope.scaling.type": "linear",
        "llama.rope.scaling.factor": 2.0,
    },
    "llama.attention.head_count_kv is not the same in all layers": {"llama.attention.head_count_kv": [2, 1]},
    "heads 4 is not a multiple of kv_heads 3": {"llama.attention.head_count_kv": 3},
    "llama.block_count is missing": {"llama.block_count": None},
    "llama.block_count should be a whole number, not 'two'": {"llama.block_count": "two"},
    "tensor blk.2.": {"llama.block_count": 3},
    "blk.1.attn_norm.weight is no tensor of a network of llama": {"llama.block_count": 1},
    "has shape [32, 64]; its keys ask for [32, 60]": {"llama.feed_forward_length": 60},
    "tokenizer.ggml.model is 'bert'; what is read is 'gpt2' and 'llama'": {"tokenizer.ggml.model": "bert"},
    "tokenizer.ggml.pre is 'viking', so how its text is split": {"tokenizer.ggml.pre": "viking"},
    "tokenizer.ggml.pre is 'missing', so how its text is split": {"tokenizer.ggml.pre": None},
    "tokenizer.ggml.tokens is missing": {"tokenizer.ggml.tokens": None},
    "tokenizer.ggml.tokens has a token twice": {"tokenizer.ggml.tokens": ["a"] * ROWS},
    "tokenizer.ggml.token_type has 2 entries, where 310 are needed": {"tokenizer.ggml.token_type": [1, 1]},
    "tokenizer.ggml.scores is missing": {"tokenizer.ggml.model": "llama"},
    "tokenizer.ggml.merges has 'one two three', which is no pair": {"tokenizer.ggml.merges": ["one two three"]},
    "its tokens and merges make no tokenizer": {"tokenizer.ggml.merges": ["nothing known"]},
    "tokenizer.ggml.eos_token_id is missing; a text needs an end": {"tokenizer.ggml.eos_token_id": None},
    "tokenizer.ggml.eos_token_id is 999; there are 310 tokens": {"tokenizer.ggml.eos_token_id": 999},
}


@pytest.mark.parametrize("says", CHANGED_KEYS)
def test_a_key_that_is_no_good_is_refused_with_the_reason(says: str, whole: Any, tmp_path: Path) -> None:
    _, keys, tensors = whole
    changed = {key: value for key, value in (keys | CHANGED_KEYS[says]).items() if value is not None}
    write_gguf(tmp_path / "model.gguf", changed, tensors)
    assert_refused(tmp_path / "model.gguf", tmp_path / "out", says)


def test_more_tokens_than_rows_are_refused(whole: Any, tmp_path: Path) -> None:
    _, keys, tensors = whole
    short = {name: x[:200] if name in ("token_embd.weight", "output.weight") else x for name, x in tensors.items()}
    write_gguf(tmp_path / "model.gguf", keys, short)
    assert_refused(tmp_path / "model.gguf", tmp_path / "out", "tokens and 200 rows in token_embd.weight")


def test_a_tensor_too_many_or_of_whole_numbers_is_refused(whole: Any, tmp_path: Path) -> None:
    _, keys, tensors = whole
    write_gguf(tmp_path / "more.gguf", keys, tensors | {"blk.0.attn_q.bias": np.zeros(32, np.float32)})
    assert_refused(tmp_path / "more.gguf", tmp_path / "out", "blk.0.attn_q.bias is no tensor of a network of llama")
    write_gguf(tmp_path / "ids.gguf", keys, tensors | {"output_norm.weight": np.ones(32, np.int32)})
    assert_refused(tmp_path / "ids.gguf", tmp_path / "out", "output_norm.weight is I32; weights are floating-point")


def test_a_file_that_is_none_is_refused(whole: Any, tmp_path: Path) -> None:
    content = whole[0].read_bytes()
    out = tmp_path / "out"
    assert_refused(tmp_path / "none.gguf", out, "none.gguf: no such file")
    assert_refused(tmp_path, out, "no such file")
    path = tmp_path / "model.gguf"
    for spoilt, says in [
        (b"", "no GGUF file, which would begin with these four letters"),
        (b"GGML" + content[4:], "no GGUF file, which would begin with these four letters"),
        (content[:4], "the file ends too early"),
        (content[:60], "the file ends too early"),
        (content[:-9], "the file ends too early"),
        (content[:4] + struct.pack("<I", 1) + content[8:], "no GGUF file that the package gguf reads"),
        (content[:16] + struct.pack("<Q", 2**60) + content[24:], "model.gguf"),  # as many keys
        (content[:24] + struct.pack("<Q", 2**60) + content[32:], "the file ends too early"),  # a key of such length
        (content[:300] + 600 * b"\xff" + content[900:], "model.gguf"),
    ]:
        path.write_bytes(spoilt)
        assert_refused(path, out, says)


def test_a_quantisation_that_is_not_known_is_refused(whole: Any, tmp_path: Path) -> None:
    _, keys, tensors = whole
    blocks = np.zeros((ROWS, 40), np.uint8)  # of one block a row
    kind = gguf.GGMLQuantizationType.Q8_1
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    put_keys(writer, keys)
    for name, x in tensors.items():
        writer.add_tensor(name, *((blocks, None, kind) if name == "token_embd.weight" else (x,)))
    finish(writer)
    assert_refused(tmp_path / "model.gguf", tmp_path / "out", "token_embd.weight is Q8_1, which the package gguf can't")
    content = (tmp_path / "model.gguf").read_bytes()
    at = content.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 2 * 8
    assert content[at] == kind
    (tmp_path / "model.gguf").write_bytes(content[:at] + struct.pack("<I", 99) + content[at + 4 :])
    assert_refused(tmp_path / "model.gguf", tmp_path / "out", "is not a valid GGMLQuantizationType")


def test_the_command_ends_with_status_2_and_one_line(whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "out").mkdir()
    for arguments, says in [
        ([f"gguf:{whole[0]}", f"{tmp_path}/out"], "out exists; name another folder, or remove it"),
        ([str(whole[0]), f"{tmp_path}/new"], "give the model to import as gguf:FILE"),
        (["gguf:" + 300 * "x", f"{tmp_path}/new"], "no such file"),
    ]:
        assert main(["import", *arguments]) == 2
        captured = capsys.readouterr()
        assert says in captured.err
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "new").exists()


def test_without_the_package_one_line_says_what_to_install(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    assert_refused(whole[0], tmp_path / "out", "install it: pip install gguf")
