"""The tokens that begin and end a text, from the files next to a tokenizer.json, in the same order as `transformers`.

Names come from tokenizer_config.json; if that has the older form, special_tokens_map.json completes it. The tokens that
end a generated text, possibly several, are in generation_config.json, or else in config.json. The tokens before a text
are those that the tokenizer's post-processor adds; a model whose files name no beginning has none.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models

from gptgan_jax.errors import UserError

TOKENIZER_FILE, SPECIALS_FILE = "tokenizer.json", "tokenizer_config.json"
SPECIALS_MAP_FILE, GENERATION_FILE, NETWORK_FILE = "special_tokens_map.json", "generation_config.json", "config.json"
ROLES = ("pad", "bos", "eos")
# The tokens' names in published files, the most reliable first.
USUAL_NAMES = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
    "bos": ("<bos>", "[BOS]", "<s>", "<|begin_of_text|>", "<|startoftext|>", "<|bos|>", "[CLS]"),
    "eos": ("<eos>", "[EOS]", "</s>", "<|endoftext|>", "<|end_of_text|>", "<|eos|>", "<|im_end|>", "[SEP]"),
}


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a tokenizer.

    Attributes:
        names: their names in the files, such as {"bos_token": None, "eos_token": "<|im_end|>"}.
        pad: an id; None if there is none.
        unk: the id of the unknown token; None if nothing is ever unknown, as in byte-level vocabularies, whose files
            may name an unknown token anyway.
        begins_text: the id that begins text without a prompt: the beginning of text, else the end.
        prefix: the ids that the tokenizer puts before a prompt; often the beginning of text, or nothing.
        ends_text: the id that ends a training text.
        ends: the ids that end a generated text.
    """

    names: Mapping[str, str | None]
    pad: int | None
    unk: int | None
    begins_text: int
    prefix: tuple[int, ...]
    ends_text: int
    ends: tuple[int, ...]


def read_special_tokens(backend: tokenizers.Tokenizer, folder: Path, where: str) -> SpecialTokens:
    """The special tokens of the tokenizer in a folder.

    Args:
        backend: the tokenizer itself.
        folder: with the files next to its tokenizer.json, any of which may be missing.
        where: the tokenizer, for messages.

    Raises:
        UserError: no token ends a text, or a file is damaged.
    """
    names = _names(folder)
    ends, begin = _generation_ids(backend, folder)
    ids = {role: _named(backend, names, role) for role in ROLES}
    eos = ids["eos"]
    if eos is None:
        eos = next(iter(ends), None)
    if eos is None:
        eos = _usual(backend, "eos")
    if eos is None:
        raise UserError(
            f"{where}: no end-of-text token; one of {', '.join(USUAL_NAMES['eos'])} should be in its vocabulary,"
            f' or a {SPECIALS_FILE} beside it should name it, as in {{"eos_token": "<stop>"}}'
        )
    for role in ("pad", "bos"):
        if f"{role}_token" not in names:
            ids[role] = _usual(backend, role)
    bos = begin if ids["bos"] is None and "bos_token" in names else ids["bos"]
    if bos is None:
        bos = eos if begin is None else begin
    return SpecialTokens(
        names=names,
        pad=ids["pad"],
        unk=_unknown(backend),
        begins_text=bos,
        prefix=post_processed_prefix(backend),
        ends_text=eos,
        ends=ends or (eos,),
    )


def add_named_tokens(backend: tokenizers.Tokenizer, folder: Path) -> None:
    """Adds the tokens after those of tokenizer.json that only tokenizer_config.json has, as `transformers` does.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / SPECIALS_FILE
    found = (read_json(file) if file.is_file() else {}).get("added_tokens_decoder")
    for index, token in sorted(_numbered(found).items()) if isinstance(found, dict) else ():
        content = token.get("content") if isinstance(token, dict) else None
        if isinstance(content, str) and content and index == 1 + max(backend.get_vocab().values(), default=-1):
            flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
            backend.add_tokens([AddedToken(content, **{flag: bool(token.get(flag)) for flag in flags})])


def _numbered(found: Mapping[str, Any]) -> dict[int, Any]:
    return {int(index): token for index, token in found.items() if index.isdecimal()}


def post_processed_prefix(backend: tokenizers.Tokenizer) -> tuple[int, ...]:
    """The ids that the post-processor puts before a text; none without a post-processor."""
    if backend.post_processor is None:
        return ()
    words = (token for token in backend.get_vocab(with_added_tokens=False))
    for text in ("a", *itertools.islice(words, 100)):
        try:
            encoding = backend.encode(text)
        except Exception:  # the library raises bare Exception if a text has no token and there is no unknown token
            continue
        if 0 in encoding.special_tokens_mask:  # otherwise the text has no token of its own
            return tuple(encoding.ids[: encoding.special_tokens_mask.index(0)])
    return ()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError if there is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: should hold a JSON object")
    return content


def _names(folder: Path) -> dict[str, str | None]:
    """By key, such as "eos_token", the names in the files; None if a file says that there is no such token."""
    files = [folder / SPECIALS_FILE, folder / SPECIALS_MAP_FILE]
    config, completed = (read_json(file) if file.is_file() else {} for file in files)
    merged = config if "added_tokens_decoder" in config else config | completed
    names: dict[str, str | None] = {}
    for key, value in merged.items():
        if not key.endswith("_token"):
            continue
        name = value.get("content") if isinstance(value, dict) else value
        if name is None or isinstance(name, str):
            names[key] = name
    return names


def _generation_ids(backend: tokenizers.Tokenizer, folder: Path) -> tuple[tuple[int, ...], int | None]:
    """The ids that end a generated text, and the one that begins it, from the model's files.

    Ids beyond the vocabulary are never generated and are ignored.
    """
    found: dict[str, list[int]] = {"eos_token_id": [], "bos_token_id": []}
    for file in (folder / GENERATION_FILE, folder / NETWORK_FILE):
        content = read_json(file) if file.is_file() else {}
        for key, ids in found.items():
            value = content.get(key)
            if ids or value is None:
                continue
            listed = value if isinstance(value, list) else [value]
            if any(isinstance(one, bool) or not isinstance(one, int) for one in listed):
                raise UserError(f"{file}: {key} should be a token id or a list of them, not {repr(value)[:80]}")
            ids += [one for one in dict.fromkeys(listed) if one >= 0 and backend.id_to_token(one) is not None]
    return tuple(found["eos_token_id"]), next(iter(found["bos_token_id"]), None)


def _unknown(backend: tokenizers.Tokenizer) -> int | None:
    if isinstance(backend.model, models.Unigram):
        return json.loads(backend.to_str())["model"]["unk_id"]
    token = getattr(backend.model, "unk_token", None)
    return None if token is None else backend.token_to_id(token)


def _named(backend: tokenizers.Tokenizer, names: Mapping[str, str | None], role: str) -> int | None:
    name = names.get(f"{role}_token")
    return None if name is None else backend.token_to_id(name)


def _usual(backend: tokenizers.Tokenizer, role: str) -> int | None:
    found = (backend.token_to_id(name) for name in USUAL_NAMES[role])
    return next((i for i in found if i is not None), None)
