"""A GGUF file as the folder of a Hugging Face model: all of it, or nothing."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from gptgan_jax.data.tokenizers import SPECIALS_FILE, TOKENIZER_FILE, read_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.models.generators import build_generator
from gptgan_jax.pretrained.families import CONFIG_FILE, config_json, family_of
from gptgan_jax.pretrained.families import network_of as network_of_config
from gptgan_jax.pretrained.gguf_file import PREFIX, GgufFile, open_gguf
from gptgan_jax.pretrained.gguf_network import GgufNetwork, network_of, placed
from gptgan_jax.pretrained.gguf_tokenizer import GgufTokenizer, tokenizer_of
from gptgan_jax.pretrained.layouts import Shape
from gptgan_jax.pretrained.names import NAMES, layout_of
from gptgan_jax.pretrained.weights import SHARD_BYTES, Parameter, write_weights
from gptgan_jax.system.atomic_files import whole_folder, write_whole
from gptgan_jax.system.terminal import say
from gptgan_jax.types import Vocabulary, path_name, unconditional_batch

Precision = Literal["float32", "bfloat16", "float16"]
_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
# Part of what a converted folder is kept under; another number where what is written changes.
_VERSION = 3


def import_gguf(
    path: Path, out: Path, precision: Precision | None = None, shard_bytes: int = SHARD_BYTES
) -> tuple[str, ...]:
    """Writes a Hugging Face folder: config.json, generation_config.json, the tokenizer's files and safetensors files.

    Args:
        path: of a GGUF file.
        out: the new folder.
        precision: of all weights; by default each tensor's is the file's own, float32 where it is quantised, so
            that no number is rounded.
        shard_bytes: of the largest file of weights.

    Returns:
        lines on what is narrower in the folder than in the file.

    Raises:
        UserError: what `open_gguf`, `network_of`, `tokenizer_of` and `placed` refuse, or a folder that exists or can't
            be written. Nothing is left of it then.
    """
    if os.path.lexists(out):  # unlike Path.exists, not of a name that is too long
        raise UserError(f"{out} exists; name another folder, or remove it")
    file = open_gguf(path)
    network = network_of(file)
    tokenizer = tokenizer_of(file)
    parameters = _parameters(file, network, precision)
    dtypes = {str(one.dtype) for one in parameters}
    config = _config(network, tokenizer, dtypes.pop() if len(dtypes) == 1 else "float32")
    network_of_config(config, out / CONFIG_FILE)
    with whole_folder(out) as folder:
        _write_json(folder / CONFIG_FILE, config)
        ends = list(tokenizer.ends)
        _write_json(
            folder / "generation_config.json",
            {**tokenizer.special, "eos_token_id": ends if len(ends) > 1 else ends[0]},
        )
        tokenizer.backend.save(str(folder / TOKENIZER_FILE))
        _write_json(folder / SPECIALS_FILE, {**tokenizer.config, "model_max_length": network.config.max_positions})
        if (known := read_tokenizer(folder / TOKENIZER_FILE).vocabulary.size) > network.vocab_size:
            raise UserError(f"{path}: there are {known} tokens and {network.vocab_size} rows in token_embd.weight")
        write_weights(folder, parameters, shard_bytes)
    return network.notes


def folder_of(init_from: str, say: Callable[[str], object] = say) -> Path:
    """The folder that `gguf:FILE` is converted into: once, in the user's cache, under the file's name, size and date.

    Args:
        init_from: gguf:FILE.
        say: is told where, before the conversion.

    Raises:
        UserError: see `import_gguf`.
    """
    path = Path(init_from.removeprefix(PREFIX)).expanduser().absolute()
    try:
        found = path.stat()
    except (OSError, ValueError):
        raise UserError(f"{path}: no such file; gguf:FILE should name a .gguf file") from None
    mark = repr((_VERSION, str(path), found.st_size, found.st_mtime_ns)).encode()
    name = f"{path.stem}-{hashlib.blake2b(mark, digest_size=8).hexdigest()}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptgan_jax" / "gguf" / name
    if not folder.is_dir():
        say(f"{path.name} is converted once, into {folder}")
        try:
            import_gguf(path, folder)
        except UserError:
            if not folder.is_dir():  # another process may have been first
                raise
    return folder


def _parameters(file: GgufFile, network: GgufNetwork, precision: Precision | None) -> list[Parameter]:
    def parameter(theirs: str, shape: Shape) -> Parameter:
        one = places[theirs]
        dtype = file.dtype(one.name) if precision is None else np.dtype(_DTYPES[precision])
        return Parameter({theirs: shape}, lambda: {theirs: one.undo(file.read(one.name))}, dtype)

    needed = _needed(network)
    places = placed(network, needed, file)
    return [parameter(theirs, needed[theirs]) for theirs in places]


def _needed(network: GgufNetwork) -> dict[str, Shape]:
    """Names and shapes of the tensors in a Hugging Face file."""
    names, config = NAMES[family_of(network.config)], network.config
    vocabulary = Vocabulary(network.vocab_size)
    generator = build_generator(config, vocabulary)
    batch = unconditional_batch(jnp.zeros((1, 2), jnp.int32), vocabulary)
    shapes: Any = jax.eval_shape(generator.init, jax.random.key(0), batch)
    needed: dict[str, Shape] = {}
    for path, x in jax.tree_util.tree_leaves_with_path(shapes):
        needed |= layout_of(path_name(path), names, config, names.prefix).theirs(x.shape)
    return needed


def _config(network: GgufNetwork, tokenizer: GgufTokenizer, dtype: str) -> dict[str, Any]:
    content = config_json(network.config, Vocabulary(network.vocab_size))
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")) | dict(tokenizer.special)
    return content | ids | {"torch_dtype": dtype}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())
