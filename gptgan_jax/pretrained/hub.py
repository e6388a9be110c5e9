"""What `init_from` names: a run, the folder of a Hugging Face model, a GGUF file, or a model of the hub."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.families import CONFIG_FILE, REMEDY, read_network
from gptgan_jax.pretrained.gguf_file import PREFIX as GGUF
from gptgan_jax.pretrained.weights import INDEX_FILE
from gptgan_jax.tokenization.chat_templates import TEMPLATE_FILE
from gptgan_jax.tokenization.special_tokens import GENERATION_FILE, SPECIALS_FILE, SPECIALS_MAP_FILE, TOKENIZER_FILE

FOLDER, HUB = "hf:", "hub:"
# All that is read of a model. No pickle, and no code, is ever fetched.
FILES = (
    CONFIG_FILE,
    GENERATION_FILE,
    TOKENIZER_FILE,
    SPECIALS_FILE,
    SPECIALS_MAP_FILE,
    TEMPLATE_FILE,
    INDEX_FILE,
    "*.safetensors",
)
# Patterns for what is not read: another program's copy of the weights, and what lies in folders.
NEEDLESS = ("consolidated*", "*/*")

# Layers from which on a model's are scanned, unless the configuration says otherwise.
SCANNED_FROM = 24


def is_model(init_from: str | None) -> bool:
    """Whether it names a model, not a run."""
    return init_from is not None and init_from.startswith((FOLDER, GGUF, HUB))


def model_folder(init_from: str, files: Sequence[str] = FILES) -> Path:
    """The folder of the model that `hf:FOLDER`, `gguf:FILE`, `hub:NAME` or `hub:NAME@REVISION` names.

    A GGUF file is converted into one the first time, in the user's cache.

    Args:
        init_from: one of these.
        files: names or patterns; of a model of the hub these alone are downloaded, where they are not there yet.

    Raises:
        UserError: no such folder or file, or no such model that can be reached.
    """
    if init_from.startswith(FOLDER):
        folder = Path(init_from.removeprefix(FOLDER)).expanduser()
        if not os.path.isdir(folder):  # unlike Path.is_dir, not of a name that is too long
            raise UserError(f"{folder} is no folder; hf:FOLDER should name one with config.json and safetensors files")
        return folder
    if init_from.startswith(GGUF):
        from gptgan_jax.pretrained.gguf_import import folder_of  # JAX and networks, which the other kinds do without

        return folder_of(init_from)
    name, _, revision = init_from.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UserError(f"{name[:80]!r} is no name of a model; it should be such as hub:openai-community/gpt2")
    return Path(_downloaded(name, revision or None, files))


def from_the_root(init_from: str) -> str:
    """The same, a folder or file of it by its absolute path."""
    if init_from.startswith(HUB):
        return init_from
    prefix = next((one for one in (FOLDER, GGUF) if init_from.startswith(one)), "")
    return prefix + os.path.abspath(os.path.expanduser(init_from.removeprefix(prefix)))


def with_network(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A raw configuration whose `init_from` names a model has that model's network, where it gives no key of its own.

    The layers of a deep one are scanned: unrolled, its steps would compile for many minutes.

    Raises:
        UserError: no such model, or one that is not read here.
    """
    source, given = raw.get("init_from"), raw.get("generator") or {}
    if not isinstance(source, str) or not is_model(source) or not isinstance(given, Mapping):
        return raw
    kind = given.get("kind", "transformer")
    if kind != "transformer":
        raise UserError(f"generator.kind is {repr(kind)[:80]}, and init_from names a transformer; {REMEDY}")
    try:
        network = read_network(model_folder(source, (CONFIG_FILE,)))
    except UserError as error:
        raise UserError(f"init_from: {error}") from None
    own = {**dataclasses.asdict(network.config), "scan_layers": network.config.layers >= SCANNED_FROM}
    return {**raw, "generator": {**own, **given}}


def _downloaded(name: str, revision: str | None, files: Sequence[str]) -> str:
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=list(NEEDLESS))
    except Exception as error:  # of the hub's kinds, the network's and the disk's
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"model {name} can't be fetched from the hub ({reason}); is there a network, and the name right?"
        ) from None
