#!/usr/bin/env bash
# transformers 4.57.6 and 5.23.0 on one folder of a Llama tokenizer whose tokenizer.json has no post-processor.
# Expected: "add_bos_token": true in tokenizer_config.json puts <s> before a text, in both.
# Seen: version 4 puts it there, and also where the key is missing; version 5 never does and says nothing. It keeps what
#   the post-processor of tokenizer.json says. A prompt without its beginning is another prompt to the model.
# Output seen:
#   4.57.6: true <s>hello, false hello, absent <s>hello
#   5.23.0: true hello, false hello, absent hello
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

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

special = ["<unk>", "<s>", "</s>"]
backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
pieces = [f"<0x{i:02X}>" for i in range(256)]
backend.train_from_iterator(
    ["hello hello"] * 9, trainers.BpeTrainer(vocab_size=300, special_tokens=special + pieces, show_progress=False)
)
seen = []
for value in (True, False, None):
    folder = pathlib.Path("model")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizerFast"}
    if value is not None:
        names["add_bos_token"] = value
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = "".join(tokenizer.convert_ids_to_tokens(tokenizer("hello").input_ids)).replace("▁", "")
    seen.append(f"{json.dumps(value).replace('null', 'absent')} {tokens}")
print(f"{transformers.__version__}: {', '.join(seen)}")
P
export HF_HUB_OFFLINE=1
PYTHONPATH=four python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
PYTHONPATH=five python3 see.py 2> error.log | tee -a seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
4.57.6: true <s>hello, false hello, absent <s>hello
5.23.0: true hello, false hello, absent hello
S
