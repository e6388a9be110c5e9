"""The tokens that begin and end a text, from the files next to a tokenizer.json, in the same order as `transformers`.

Names come from tokenizer_config.json; if that has the older form, special_tokens_map.json completes it. What neither
names may have a name in that class of tokenizer. The tokens that end a generated text, possibly several, are in
generation_config.json, or else in config.json. The tokens before a text are those that the tokenizer's post-processor
adds; a model whose files name no beginning has none.
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
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# The tokens' names in published files, the most reliable first.
USUAL_NAMES = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
    "bos": ("<bos>", "[BOS]", "<s>", "<|begin_of_text|>", "<|startoftext|>", "<|bos|>", "[CLS]"),
    "eos": ("<eos>", "[EOS]", "</s>", "<|endoftext|>", "<|end_of_text|>", "<|eos|>", "<|im_end|>", "[SEP]"),
}
# How `transformers` 5 names the tokens that no file names, by the class of the tokenizer; and the class by model_type,
# where no file names one.
_OF_CLASS: dict[str, dict[str, str | None]] = {
    "LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "GPT2Tokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
    "Qwen2Tokenizer": {"bos_token": None, **dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")},
}
_CLASSES = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}


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
    names = _names(backend, folder)
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
        prefix=post_processed(backend)[0],
        ends_text=eos,
        ends=ends or (eos,),
    )


def add_named_tokens(backend: tokenizers.Tokenizer, folder: Path) -> None:
    """Makes the tokens special that the files next to tokenizer.json call so, as `transformers` does.

    Tokens that only added_tokens_decoder has are added after those of tokenizer.json. Any other name without an id is
    left out: no network knows such a token.

    Raises:
        UserError: a file is damaged.
    """
    files = _files(folder)
    backend.add_tokens(_listed(backend, files))
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    special = []
    for value in _named_values(backend, folder).values():
        token = _added(value)
        if token is not None:
            special.append(_copy(added.get(token.content, token)))
    extra = files.get("extra_special_tokens") or files.get("additional_special_tokens")
    for value in extra if isinstance(extra, list) else ():
        token = _added(value)
        if token is not None and token.content not in added:
            special.append(_copy(token))
    backend.add_tokens([token for token in special if backend.token_to_id(token.content) is not None])


def _listed(backend: tokenizers.Tokenizer, files: Mapping[str, Any]) -> list[AddedToken]:
    """The tokens of added_tokens_decoder that the tokenizer has, and those whose ids come next."""
    found = files.get("added_tokens_decoder")
    numbered = {int(i): _added(token) for i, token in found.items() if i.isdecimal()} if isinstance(found, dict) else {}
    tokens, free = [], 1 + max(backend.get_vocab().values(), default=-1)
    for i, token in sorted(numbered.items()):
        if token is not None and (i == free or backend.token_to_id(token.content) is not None):
            tokens.append(token)
            free += backend.token_to_id(token.content) is None
    return tokens


def _added(value: Any) -> AddedToken | None:
    """A token as a file writes it: its name, or an object with its flags; None if it is neither."""
    if isinstance(value, str) and value:
        return AddedToken(value, special=True)
    content = value.get("content") if isinstance(value, dict) else None
    return AddedToken(content, **{flag: bool(value.get(flag)) for flag in FLAGS}) if isinstance(content, str) else None


def _copy(token: AddedToken) -> AddedToken:
    """The same as a special token."""
    return AddedToken(token.content, **{flag: getattr(token, flag) for flag in FLAGS} | {"special": True})


def post_processed(backend: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that the post-processor puts before a text and after it; none without a post-processor."""
    if backend.post_processor is None:
        return (), ()
    words = (token for token in backend.get_vocab(with_added_tokens=False))
    for text in ("a", *itertools.islice(words, 100)):
        try:
            encoding = backend.encode(text)
        except Exception:  # the library raises bare Exception if a text has no token and there is no unknown token
            continue
        mask = encoding.special_tokens_mask
        if 0 in mask:  # otherwise the text has no token of its own
            return tuple(encoding.ids[: mask.index(0)]), tuple(encoding.ids[len(mask) - mask[::-1].index(0) :])
    return (), ()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError if there is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: should hold a JSON object")
    return content


def _files(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json; one of the older form is completed by special_tokens_map.json."""
    files = [folder / SPECIALS_FILE, folder / SPECIALS_MAP_FILE]
    config, completed = (read_json(file) if file.is_file() else {} for file in files)
    return config if "added_tokens_decoder" in config else config | completed


def _named_values(backend: tokenizers.Tokenizer, folder: Path) -> dict[str, Any]:
    """By key, such as "eos_token", what the files write for a token, or the class of the tokenizer calls it."""
    files = _files(folder)
    extra = files.get("extra_special_tokens")
    named = {key: value for key, value in files.items() if key.endswith("_token")}
    return _OF_CLASS.get(_class(backend, folder), {}) | named | (extra if isinstance(extra, dict) else {})


def _class(backend: tokenizers.Tokenizer, folder: Path) -> str:
    """The class by which `transformers` 5 reads this tokenizer; it trusts no file for some kinds of models."""
    network = read_json(folder / NETWORK_FILE) if (folder / NETWORK_FILE).is_file() else {}
    family = str(network.get("model_type"))
    if family in ("qwen2", "mistral"):
        return _CLASSES.get(family, "")
    named = _files(folder).get("tokenizer_class") or network.get("tokenizer_class") or _CLASSES.get(family, "")
    name = str(named).removesuffix("Fast")
    of_bytes = name == "LlamaTokenizer" and '"ByteLevel"' in backend.to_str()
    return "" if of_bytes else name


def _names(backend: tokenizers.Tokenizer, folder: Path) -> dict[str, str | None]:
    """By key, such as "eos_token", the names in the files; None if a file says that there is no such token."""
    names: dict[str, str | None] = {}
    for key, value in _named_values(backend, folder).items():
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
