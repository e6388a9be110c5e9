"""Tokenizers of chat models in folders, made without transformers."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def backend_of(kind: str) -> tokenizers.Tokenizer:
    if kind == "bytes":
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        more = list(pre_tokenizers.ByteLevel.alphabet())
    else:
        backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        if kind == "first":
            backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        else:
            backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(parts)
        more = []
    fallback = [f"<0x{i:02X}>" for i in range(256)] if kind != "bytes" else []
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[*SPECIAL, *fallback], initial_alphabet=more, show_progress=False
    )
    backend.train_from_iterator(["hello world how are you user assistant system INST be kind"] * 30, trainer)
    content = json.loads(backend.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in SPECIAL]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def write_folder(folder: Path, kind: str = "bytes", template: str | None = CHATML, **names: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    backend_of(kind).save(str(folder / "tokenizer.json"))
    named = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"} | names
    if template is not None:
        named["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    return folder
