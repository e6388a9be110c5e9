#!/usr/bin/env bash
# Text of tokens that stand for bytes (byte fallback, as in Llama 2 and Mistral 7B), cut within a character: by SentencePiece
# 0.2.3, where such models come from, and by tokenizers 0.23.3, which reads them in transformers, with the decoder of its conversion.
#   A sample, a prompt or a stream of tokens ends anywhere; the six Thai letters here are 18 byte tokens, and 16 are given.
# Expected: both keep the five letters that are there, and replace what is left of the sixth.
# Seen: tokenizers replaces every byte back to the last token that is no byte, so five letters are lost for one that is
#   incomplete. Who streams text by decoding what there is so far sees each letter turn into marks and back.
# Output seen:
#   SentencePiece: five letters kept, 1 mark
#   tokenizers: no letter kept, 16 marks
#   both, of all 18 tokens: the same
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages sentencepiece==0.2.3 tokenizers==0.23.3 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import io

import sentencepiece
from tokenizers import decoders

LETTERS = "กขคงจฉ"
MARK = "\N{REPLACEMENT CHARACTER}"
english = ["the cat sat on the mat", "a dog ran to the cat", "the mat was on the dog"] * 20
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(english), model_writer=model, vocab_size=290, model_type="bpe", byte_fallback=True,
    hard_vocab_limit=False, minloglevel=2,
)
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
pieces = [f"<0x{byte:02X}>" for byte in LETTERS.encode()]
assert processor.encode("cat" + LETTERS, out_type=str)[-18:] == pieces
rule = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def found(text):
    kept = "".join(letter for letter in LETTERS if letter in text)
    return {"": "no letter", LETTERS[:5]: "five letters"}.get(kept, kept), text.count(MARK)


for name, decode in (("SentencePiece", processor.decode_pieces), ("tokenizers", rule.decode)):
    letters, marks = found(decode(["▁cat", *pieces[:16]]))
    print(f"{name}: {letters} kept, {marks} mark{'s' * (marks != 1)}")
whole = [decode(["▁cat", *pieces]).strip() for decode in (processor.decode_pieces, rule.decode)]
print("both, of all 18 tokens:", "the same" if whole == ["cat" + LETTERS] * 2 else whole)
P
PYTHONPATH=packages python3 see.py | tee seen
diff seen - <<'S'
SentencePiece: five letters kept, 1 mark
tokenizers: no letter kept, 16 marks
both, of all 18 tokens: the same
S
