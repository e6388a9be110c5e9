#!/usr/bin/env bash
# One tokenizer.json in Python (tokenizers 0.23.2) and in JavaScript (@huggingface/tokenizers 0.2.0, which transformers.js uses).
# Expected: the same tokens.
# Seen: in JavaScript letters and digits of the pre-tokenizers Whitespace and Digits are those of ASCII, so that "naïve" is
#   three words and "²" or "٣" are no digits; and Lowercase writes the end of a Greek word as a reader would (ς), in Python as
#   the table of single characters does (σ). In a word-level vocabulary such a word is unknown on the other side.
# Output seen:
#   Whitespace "naïve": Python naïve; JavaScript na ï ve
#   Digits "m²": Python m ²; JavaScript m²
#   Digits "٣٤": Python ٣ ٤; JavaScript ٣٤
#   Lowercase "ΛΟΓΟΣ": Python λογοσ; JavaScript λογος
# Exits non-zero if that changes. Needs Node.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages tokenizers==0.23.2 2> pip.log || { cat pip.log; exit 3; }
npm install --silent --no-audit --no-fund --save-exact @huggingface/tokenizers@0.2.0 > npm.log 2>&1 || { cat npm.log; exit 3; }
cat > see.py <<'P'
import json

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

cases = [("Whitespace", "naïve"), ("Digits", "m²"), ("Digits", "٣٤"), ("Lowercase", "ΛΟΓΟΣ")]
seen = []
for name, text in cases:
    # Whatever either side makes of the text is in the vocabulary.
    words = ["?", "na", "ï", "ve", "naïve", "m", "²", "m²", "٣", "٤", "٣٤", "λογος", "λογοσ"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    if name == "Lowercase":
        tokenizer.normalizer = normalizers.Lowercase()
    else:
        tokenizer.pre_tokenizer = {
            "Whitespace": pre_tokenizers.Whitespace(),
            "Digits": pre_tokenizers.Digits(individual_digits=True),
        }[name]
    seen.append({"name": name, "text": text, "python": tokenizer.encode(text).tokens, "json": tokenizer.to_str()})
print(json.dumps(seen))
P
cat > see.mjs <<'J'
import fs from "fs";
import { Tokenizer } from "@huggingface/tokenizers";

for (const { name, text, python, json } of JSON.parse(fs.readFileSync("cases.json"))) {
  const { tokens } = new Tokenizer(JSON.parse(json), { unk_token: "?" }).encode(text);
  console.log(`${name} "${text}": Python ${python.join(" ")}; JavaScript ${tokens.join(" ")}`);
}
J
PYTHONPATH=packages python3 see.py > cases.json
node see.mjs 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
Whitespace "naïve": Python naïve; JavaScript na ï ve
Digits "m²": Python m ²; JavaScript m²
Digits "٣٤": Python ٣ ٤; JavaScript ٣٤
Lowercase "ΛΟΓΟΣ": Python λογοσ; JavaScript λογος
S
