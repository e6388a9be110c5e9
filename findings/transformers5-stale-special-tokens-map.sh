#!/usr/bin/env bash
# transformers 5.23.0, tokenizers 0.23.2 (Python 3.11).
# Expected: AutoTokenizer.from_pretrained reads back the end of text that save_pretrained has just written.
# Seen: in a folder that transformers 4 made, it reads the old one. Version 5 writes the name into tokenizer_config.json,
#   leaves special_tokens_map.json (which it no longer writes) as it was, and on reading lets that file overrule.
#   So a chat model whose end of turn was set and saved there goes on past its turns.
# Output seen:
#   saved <|im_end|>, read <|endoftext|>
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages transformers==5.23.0 tokenizers==0.23.2 'jinja2==3.1.6' 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

folder = pathlib.Path("model")
folder.mkdir()
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
backend.decoder = decoders.ByteLevel()
backend.add_special_tokens(["<|endoftext|>", "<|im_end|>"])
backend.save(str(folder / "tokenizer.json"))
# As transformers 4 saved a tokenizer: the names in both files.
names = {"eos_token": "<|endoftext|>"}
(folder / "special_tokens_map.json").write_text(json.dumps(names))
(folder / "tokenizer_config.json").write_text(json.dumps(names | {"tokenizer_class": "PreTrainedTokenizerFast"}))

tokenizer = AutoTokenizer.from_pretrained(folder)
tokenizer.eos_token = "<|im_end|>"
tokenizer.save_pretrained(folder)
saved = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
print(f"saved {saved}, read {AutoTokenizer.from_pretrained(folder).eos_token}")
P
PYTHONPATH=packages HF_HUB_OFFLINE=1 python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
[ "$(tail -1 seen)" = "saved <|im_end|>, read <|endoftext|>" ]
