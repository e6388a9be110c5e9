"""The folder of a Hugging Face model as a generator with its parameters and tokenizer, and back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers
from tokenizers import processors

from gptgan_jax.data.tokenizers import PADDED_SIZE, AnyTokenizer, Tokenizer, read_tokenizer
from gptgan_jax.distributed.hosts import to_host
from gptgan_jax.errors import UserError
from gptgan_jax.models.generators import Generator
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.pretrained.families import CONFIG_FILE, Network, config_json, family_of, read_network
from gptgan_jax.pretrained.layouts import AT_ONCE, Index, Layout, Shape
from gptgan_jax.pretrained.names import HEAD, NAMES, is_ignored, layout_of
from gptgan_jax.pretrained.weights import SHARD_BYTES, Parameter, Weights, write_weights
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.tokenization.special_tokens import SPECIALS_FILE, TOKENIZER_FILE, post_processed, read_json
from gptgan_jax.types import Params

ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class Model:
    """A folder that was looked through; its weights are read when they are asked for.

    Attributes:
        folder: with config.json, safetensors files and tokenizer.json.
        network: what config.json says.
        tokenizer: its vocabulary is as large as the embedding table, which may have rows that no token uses.
    """

    folder: Path
    network: Network
    tokenizer: Tokenizer

    def params(self, target: Params) -> Params:
        """The generator's parameters, each device's part read by itself.

        Args:
            target: shape structs with shardings, of a generator of this network; scanned layers or not.

        Raises:
            UserError: a tensor is missing, of another shape or left over, or a file is damaged.
        """
        with Weights(self.folder) as weights:
            layouts = self._layouts(weights, target)
            return jax.tree.map_with_path(lambda path, x: _read(weights, layouts[_name(path)], x), target)

    def check(self, target: Params) -> None:
        """Raises what `params` would, but for a damage inside of the files' numbers. Needs no shardings."""
        with Weights(self.folder) as weights:
            self._layouts(weights, target)

    def _layouts(self, weights: Weights, target: Params) -> dict[str, Layout]:
        names, config = NAMES[self.network.family], self.network.config
        prefixed = any(name.startswith(names.prefix) for name in weights.names)
        prefix = names.prefix if prefixed else ""
        needed: dict[str, Shape] = {}
        layouts = {}
        for path, x in jax.tree_util.tree_leaves_with_path(target):
            layout = layout_of(_name(path), names, config, prefix)
            needed |= layout.theirs(x.shape)
            layouts[_name(path)] = layout
        for name, shape in needed.items():
            if name not in weights.names:
                raise UserError(f"{self.folder}: tensor {name} is missing, which {CONFIG_FILE} asks for")
            if weights.shape(name) != shape:
                raise UserError(
                    f"{weights.file_of(name)}: {name} has shape {list(weights.shape(name))}; "
                    f"{self.network.source} asks for {list(shape)}"
                )
        for name in weights.names:
            if name not in needed and not is_ignored(name, names, config):
                raise UserError(
                    f"{weights.file_of(name)}: {name} is no tensor of the network that {CONFIG_FILE} describes"
                )
        if config.tied_embeddings and HEAD in weights.names:
            _check_copy(weights, prefix + names.outside["trunk/embedding/table"], self.network.source)
        return layouts


def open_model(folder: Path) -> Model:
    """Reads all but the weights.

    Raises:
        UserError: config.json or tokenizer.json is missing, damaged or of no use here, or they don't go together.
    """
    network = read_network(folder)
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; save the model's tokenizer in this form (a fast tokenizer)")
    tokenizer = read_tokenizer(path)
    known = tokenizer.vocabulary.size
    if known > network.vocab_size:
        raise UserError(
            f"{path} has {known} tokens; {network.source} says vocab_size {network.vocab_size}, which is less"
        )
    return Model(folder, network, tokenizer.padded(network.vocab_size))


def save_model(
    folder: Path,
    generator: Generator,
    params: Params,
    tokenizer: AnyTokenizer | None,
    shard_bytes: int = SHARD_BYTES,
    prompts: bool = False,
) -> None:
    """Writes config.json, generation_config.json, safetensors files and the tokenizer's into a folder.

    The tokenizer puts in front of what it encodes what the generator has read there.

    Args:
        folder: that there is.
        generator: of a family that Hugging Face folders hold.
        params: its parameters.
        tokenizer: its tokenizer; none is written for plain ids.
        shard_bytes: of the largest file of weights.
        prompts: whether the generator read prompts, before which its tokenizer may put several tokens.

    Raises:
        UserError: see `family_of`.
        OSError: where it can't be written.
    """
    config = generator.config
    family = family_of(config)
    assert isinstance(config, TransformerConfig)
    vocabulary = generator.vocabulary
    content = config_json(config, vocabulary)
    if len(vocabulary.ends) > 1:
        content["eos_token_id"] = list(vocabulary.ends)
    if isinstance(tokenizer, Tokenizer):  # a chat template writes another beginning by itself
        content["bos_token_id"] = tokenizer.special.begins_text
    names = NAMES[family]

    def parameter(path: Any, x: Any) -> Parameter:
        layout = layout_of(_name(path), names, config, names.prefix)
        return Parameter(layout.theirs(x.shape), lambda: layout.split(np.asarray(to_host(x))))

    write_weights(folder, [parameter(path, x) for path, x in jax.tree_util.tree_leaves_with_path(params)], shard_bytes)
    ids = {key: value for key, value in content.items() if key.endswith("_token_id")}
    _write_json(folder / "generation_config.json", ids)
    if isinstance(tokenizer, Tokenizer):
        _save_tokenizer(folder, tokenizer, config.max_positions, prompts)
    _write_json(folder / CONFIG_FILE, content)


def _check_copy(weights: Weights, table: str, source: Path) -> None:
    """A head beside a tied table is left out, so it must be a copy of the table.

    Raises:
        UserError: it is another, as where a head that had been trained by itself was saved under the old config.json.
    """
    rows, width = weights.shape(table)
    equal = weights.shape(HEAD) == (rows, width)
    step = max(1, AT_ONCE // width)
    for begin in range(0, rows if equal else 0, step):
        part = slice(begin, min(begin + step, rows)), slice(0, width)
        equal = equal and np.array_equal(weights.read(HEAD, part), weights.read(table, part))
    if not equal:
        raise UserError(
            f"{weights.file_of(HEAD)}: {HEAD} is another than {table}, and tie_word_embeddings of {source} makes them "
            f"one; set tie_word_embeddings to false in {CONFIG_FILE}"
        )


def _read(weights: Weights, layout: Layout, x: Any) -> jax.Array:
    """One parameter, in the place and type that a shape struct names."""
    parts: dict[Any, np.ndarray] = {}

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        index = index or ()
        bounds = tuple(one.indices(size)[:2] for one, size in zip(index, x.shape, strict=True))
        if bounds not in parts:  # devices that hold the same part
            where: Index = tuple(slice(*one) for one in bounds)
            parts[bounds] = _aligned(tuple(stop - start for start, stop in bounds), x.dtype)
            layout.read(weights, where, parts[bounds])
        return parts[bounds]

    return jax.make_array_from_callback(x.shape, x.sharding, part)


def _aligned(shape: Shape, dtype: Any) -> np.ndarray:
    """An array that JAX takes over on a CPU without a copy: it begins at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    return raw[begin : begin + size].view(dtype).reshape(shape)


def _save_tokenizer(folder: Path, tokenizer: Tokenizer, longest: int, prompts: bool) -> None:
    """The tokenizer puts in front of a text what the run had there; of a run of chats the template does that."""
    tokenizer.save_files(folder)
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    vocabulary = tokenizer.vocabulary
    begin: Sequence[int] = [vocabulary.bos_id] if vocabulary.begins_prompts else []
    if prompts or (tokenizer.chat_template is not None and vocabulary != tokenizer.for_texts().vocabulary):
        begin = tokenizer.special.prefix
    if post_processed(backend) != (tuple(begin), ()):  # an end of text after a prompt would end it
        tokens = [(backend.id_to_token(i), i) for i in begin]
        names = [name for name, _ in tokens]
        backend.post_processor = processors.TemplateProcessing(
            single=[*names, "$A"], pair=[*names, "$A", "$B"], special_tokens=tokens
        )
    write_whole(folder / TOKENIZER_FILE, backend.to_str(pretty=True).encode())
    names_of_roles = read_json(folder / SPECIALS_FILE)
    usual = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_max_length": longest,
    }
    names_of_roles.pop(PADDED_SIZE, None)  # config.json says it
    _write_json(folder / SPECIALS_FILE, names_of_roles | usual)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())


def _name(path: Any) -> str:
    """The name of a parameter: its keys, from the outermost."""
    return "/".join(part.key for part in path)
