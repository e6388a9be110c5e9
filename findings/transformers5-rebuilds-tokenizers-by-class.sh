#!/usr/bin/env bash
# transformers 4.57.6 and 5.23.0, AutoTokenizer on two folders with a tokenizer.json: one of a Llama whose normalizer puts "▁"
# before each piece of text (Prepend, as in the files of Llama 2 and Mistral 7B v0.1), one of a Qwen2 with a vocabulary of words.
# Expected: the tokens of tokenizer.json, as `tokenizers` alone gives them.
# Seen: version 4 gives them. Version 5 takes the vocabulary (and merges) from the file and builds the rest anew for a class, and
#   says nothing. LlamaTokenizer has another pre-tokenizer in place of the normalizer: with "legacy": false the first word after a
#   special token is another token, and a leading space is lost. A model_type of qwen2 overrules a tokenizer_class of
#   PreTrainedTokenizerFast, and its byte-level class finds no token at all in a vocabulary of words.
# Output seen:
#   tokenizers: llama </s> ▁ab, ▁ ▁ab; words ab ba
#   4.57.6: llama, legacy </s> ▁ab, ▁ ▁ab; llama </s> ▁ab, ▁ ▁ab; words, qwen2 ab ba; words, llama ab ba
#   5.23.0: llama, legacy </s> ▁ab, ▁ab; llama </s> ab, ▁ab; words, qwen2 ; words, llama ab ba
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
pip() { python3 -m pip install --quiet --disable-pip-version-check --target "$@" 2> pip.log || { cat pip.log; exit 3; }; }
pip four transformers==4.57.6
pip five transformers==5.23.0 tokenizers==0.23.2
cat > see.py <<'P'
import json
import pathlib
import shutil
import sys

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

special = ["<unk>", "<s>", "</s>"]
pieces = {piece: i for i, piece in enumerate([*special, *"▁ab", "ab", "▁ab"])}
llama = Tokenizer(models.BPE(pieces, [("a", "b"), ("▁", "ab")], unk_token="<unk>", fuse_unk=True))
llama.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
llama.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
words = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, "ab", "ba"])}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
for backend in (llama, words):
    backend.add_special_tokens(special)


def seen(name, tokens_of, texts):
    return f"{name} {', '.join(' '.join(tokens_of(text)) for text in texts)}"


def loaded(backend, kind, model, **more):
    folder = pathlib.Path("model")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": kind, **more}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "config.json").write_text(json.dumps({"model_type": model}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return lambda text: tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)


ends, plain = ["</s>ab", " ab"], ["ab ba"]
if sys.argv[1:] == ["file"]:
    files = {"llama": (llama, ends), "words": (words, plain)}
    shown = [
        seen(name, lambda text, backend=backend: backend.encode(text, add_special_tokens=False).tokens, texts)
        for name, (backend, texts) in files.items()
    ]
    print(f"tokenizers: {'; '.join(shown)}")
shown = [
    seen("llama, legacy", loaded(llama, "LlamaTokenizer", "llama", legacy=True), ends),
    seen("llama", loaded(llama, "LlamaTokenizer", "llama", legacy=False), ends),
    seen("words, qwen2", loaded(words, "PreTrainedTokenizerFast", "qwen2"), plain),
    seen("words, llama", loaded(words, "PreTrainedTokenizerFast", "llama"), plain),
]
print(f"{transformers.__version__}: {'; '.join(shown)}")
P
export HF_HUB_OFFLINE=1
PYTHONPATH=four python3 see.py file 2> error.log | tee seen || { tail -5 error.log; exit 3; }
PYTHONPATH=five python3 see.py 2> error.log | tee -a seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
tokenizers: llama </s> ▁ab, ▁ ▁ab; words ab ba
4.57.6: llama, legacy </s> ▁ab, ▁ ▁ab; llama </s> ▁ab, ▁ ▁ab; words, qwen2 ab ba; words, llama ab ba
5.23.0: llama, legacy </s> ▁ab, ▁ab; llama </s> ab, ▁ab; words, qwen2 ; words, llama ab ba
S
