"""The tokenizer that a GGUF file describes, as a tokenizer.json and the files beside it.

Such a file has the tokens, their kinds, their merges (byte-level BPE) or scores (SentencePiece's BPE), and a name for
how text is split before that. The normaliser and the split themselves it lacks: they are known by that name, or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.gguf_file import GgufFile

# Kinds of tokens (tokenizer.ggml.token_type).
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_SPACE = "\u2581"  # SentencePiece's

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Split:
    """How text becomes the pieces that byte-level BPE works on.

    Attributes:
        pattern: each match is a piece; None: GPT-2's.
        digits: each digit is a piece of its own, first.
        nfc: text is composed first.
        whole: a piece that is a token is that token, whatever the merges would make of it.
        begin: a beginning of text is put in front where the file does not say.
    """

    pattern: str | None = None
    digits: bool = False
    nfc: bool = False
    whole: bool = False
    begin: bool = False


# By tokenizer.ggml.pre.
_SPLITS = {
    "gpt-2": _Split(),
    "smollm": _Split(digits=True),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), _Split(_LLAMA3, whole=True, begin=True)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _Split(_QWEN2, nfc=True)),
    "tekken": _Split(_TEKKEN, whole=True, begin=True),
}
# Tokens that end a text or a turn, by their names, as llama.cpp takes them; files seldom have their ids, and may have
# another type for them than that of control tokens.
_ENDS = (
    *("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>"),
    *("<end_of_turn>", "<end_of_utterance>", "<EOT>", "_<EOT>", "[EOS]", "[EOT]"),
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)


@dataclass(frozen=True, eq=False)
class GgufTokenizer:
    """What is written of a tokenizer.

    Attributes:
        backend: for tokenizer.json.
        config: for tokenizer_config.json: the names of the special tokens, and the chat template.
        special: ids by name: bos_token_id, eos_token_id, pad_token_id, each where there is one.
        ends: ids of all tokens that end a text or a turn, the end of text first.
    """

    backend: tokenizers.Tokenizer
    config: Mapping[str, Any]
    special: Mapping[str, int]
    ends: tuple[int, ...]


def tokenizer_of(file: GgufFile) -> GgufTokenizer:
    """Builds the tokenizer.

    Raises:
        UserError: a kind of tokenizer, or a way to split text, that is not known here; or tokens that make none.
    """
    kind = file.text("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise UserError(f"{file.path}: tokenizer.ggml.model is {kind!r}; what is read is 'gpt2' and 'llama'")
    tokens: list[str] = file.items("tokenizer.ggml.tokens", str)
    if not tokens:
        raise UserError(f"{file.path}: tokenizer.ggml.tokens is missing; a model without its tokens is of no use here")
    types: list[int] = [_NORMAL] * len(tokens)
    if "tokenizer.ggml.token_type" in file.fields:
        types = file.items("tokenizer.ggml.token_type", int, len(tokens))
    types = [_CONTROL if token in _ENDS else kind for token, kind in zip(tokens, types, strict=True)]
    if file.flag("tokenizer.ggml.remove_extra_whitespaces", False):
        raise UserError(f"{file.path}: tokenizer.ggml.remove_extra_whitespaces is true; only false is read")
    # Rows of the embedding table that no token has are called so, to a round number.
    filler = {i for i, token in enumerate(tokens) if not token or (types[i] == _UNUSED and token == f"[PAD{i}]")}
    vocab = {token: i for i, token in enumerate(tokens) if i not in filler}
    if len(vocab) + len(filler) != len(tokens):
        raise UserError(f"{file.path}: tokenizer.ggml.tokens has a token twice")
    try:
        build = _byte_level if kind == "gpt2" else _sentencepiece
        backend, begins = build(file, vocab, types)
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{file.path}: its tokens and merges make no tokenizer ({reason})") from None
    _add(backend, tokens, types, filler)
    special = _special(file, tokens, kind == "llama")
    add_bos = file.flag("tokenizer.ggml.add_bos_token", begins) and "bos" in special
    add_eos = file.flag("tokenizer.ggml.add_eos_token", False) and "eos" in special
    _surround(backend, [tokens[special["bos"]]] if add_bos else [], [tokens[special["eos"]]] if add_eos else [])
    # Only what llama.cpp would not do by itself: its earlier converters fail on a SmolLM that gives `add_bos_token`.
    unusual = {"add_bos_token": add_bos} if add_bos != begins else {}
    if add_eos:
        unusual["add_eos_token"] = True
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **unusual,
        **{f"{role}_token": tokens[special[role]] if role in special else None for role in _ROLES},
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
    }
    if templates := _templates(file):
        config["chat_template"] = templates
    named = {f"{role}_token_id": special[role] for role in ("bos", "eos", "pad") if role in special}
    return GgufTokenizer(backend, config, named, _ends(file, tokens, special))


def _byte_level(file: GgufFile, vocab: dict[str, int], types: Sequence[int]) -> tuple[tokenizers.Tokenizer, bool]:
    name = file.text("tokenizer.ggml.pre", "missing")
    split = _SPLITS.get(name)
    if split is None:
        raise UserError(
            f"{file.path}: tokenizer.ggml.pre is {name!r}, so how its text is split is not known here; what is read is "
            f"{', '.join(_SPLITS)}"
        )
    if file.flag("tokenizer.ggml.add_space_prefix", False):
        raise UserError(f"{file.path}: tokenizer.ggml.add_space_prefix is true for bytes; only false is read")
    merges = [tuple(merge.split(" ")) for merge in file.items("tokenizer.ggml.merges", str)]
    if wrong := next((merge for merge in merges if len(merge) != 2), None):
        raise UserError(f"{file.path}: tokenizer.ggml.merges has {' '.join(wrong)[:40]!r}, which is no pair of tokens")
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges, ignore_merges=split.whole))
    if split.nfc:
        backend.normalizer = normalizers.NFC()
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split.pattern is None)
    before: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
    if split.pattern is not None:
        before.append(pre_tokenizers.Split(Regex(split.pattern), "isolated"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, bytes_]) if before else bytes_
    backend.decoder = decoders.ByteLevel()
    return backend, split.begin


def _sentencepiece(file: GgufFile, vocab: dict[str, int], types: Sequence[int]) -> tuple[tokenizers.Tokenizer, bool]:
    scores = file.items("tokenizer.ggml.scores", float, len(types))
    unknown = next((token for token, i in vocab.items() if types[i] == _UNKNOWN), None)
    merges = _merges_by_score({token: i for token, i in vocab.items() if types[i] in (_NORMAL, _USER_DEFINED)}, scores)
    backend = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=_BYTE in types)
    )
    prefix = file.flag("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", _SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefix else spaces
    after = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *after]
    )
    return backend, True


def _merges_by_score(vocab: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The pairs that SentencePiece would join, the best first: those whose whole is the likeliest token."""
    pairs = []
    for token, i in vocab.items():
        halves = ((token[:at], token[at:]) for at in range(1, len(token)))
        found = [pair for pair in halves if pair[0] in vocab and pair[1] in vocab]
        found.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        pairs += [(scores[i], len(left), len(right), (left, right)) for left, right in found]
    pairs.sort(key=lambda one: one[:3], reverse=True)  # the order in which transformers has them
    return [pair for *_, pair in pairs]


def _add(backend: tokenizers.Tokenizer, tokens: Sequence[str], types: Sequence[int], filler: set[int]) -> None:
    """Marks the tokens that are found in a text before all else."""
    found = [(token, kind) for i, (token, kind) in enumerate(zip(tokens, types, strict=True)) if i not in filler]
    special = [token for token, kind in found if kind in (_CONTROL, _UNKNOWN)]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    others = [token for token, kind in found if kind == _USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in others])


_ROLES = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}


def _special(file: GgufFile, tokens: Sequence[str], usual: bool) -> dict[str, int]:
    """Ids by role; `usual`: where a file of SentencePiece does not say, they are these."""
    defaults = {"bos": 1, "eos": 2, "unk": 0} if usual else {}
    found = {}
    for role, key in _ROLES.items():
        value = file.whole(f"tokenizer.ggml.{key}", defaults.get(role, -1))
        if value >= len(tokens):
            raise UserError(f"{file.path}: tokenizer.ggml.{key} is {value}; there are {len(tokens)} tokens")
        if value >= 0:
            found[role] = value
    if "eos" not in found:
        raise UserError(f"{file.path}: tokenizer.ggml.eos_token_id is missing; a text needs an end")
    return found


def _surround(backend: tokenizers.Tokenizer, before: list[str], after: list[str]) -> None:
    if before or after:
        special = [(token, backend.token_to_id(token)) for token in dict.fromkeys([*before, *after])]
        backend.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *after, *(f"{token}:1" for token in before), "$B:1", *(f"{one}:1" for one in after)],
            special_tokens=special,
        )


def _ends(file: GgufFile, tokens: Sequence[str], special: Mapping[str, int]) -> tuple[int, ...]:
    stated = [file.whole(f"tokenizer.ggml.{name}_token_id", -1) for name in ("eot", "eom")]
    named = [i for i, token in enumerate(tokens) if token in _ENDS]
    every = (special["eos"], *(i for i in stated if 0 <= i < len(tokens)), *named)
    return tuple(dict.fromkeys(every))


def _templates(file: GgufFile) -> str | list[dict[str, str]] | None:
    """The chat template; with others by name where the file has any, as tokenizer_config.json lists them."""
    key = "tokenizer.chat_template"
    others = {name.removeprefix(f"{key}."): name for name in file.fields if name.startswith(f"{key}.")}
    default = file.text(key) if key in file.fields else None
    if not others:
        return default
    named = {"default": default} if default is not None else {}
    named |= {name: file.text(where) for name, where in others.items()}
    return [{"name": name, "template": template} for name, template in named.items()]
