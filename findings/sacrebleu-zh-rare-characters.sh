#!/usr/bin/env bash
# sacrebleu 2.6.0: BLEU of Chinese text with tokenize="zh", which counts every Chinese character as a word.
# Expected: the rarer characters beyond U+FFFF (extension B: names, old poems) are words too, and punctuation between Latin
#   letters is none of them.
# Seen: the ranges of extension B are written with four digits and one more, so that they mean U+2000 to U+2A6D: dashes,
#   quotation marks and arrows are set apart as Chinese, and the characters of extension B are not. A run of them is one
#   word, and one wrong character in six makes BLEU 0.
# Output seen:
#   '好的' -> ['好', '的']
#   '𠮷𠀀' -> ['𠮷𠀀']
#   'x→y' -> ['x', '→', 'y']
#   of five right characters in six: common ones 76.0, of extension B 0.0
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages sacrebleu==2.6.0 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
from sacrebleu.metrics import BLEU

bleu = BLEU(tokenize="zh")
for text in ("好的", "𠮷𠀀", "x→y"):
    print(f"{text!r} -> {bleu.tokenizer(text).split()}")
pairs = {"common ones": ("春眠不觉晓花", "春眠不觉晓鸟"), "of extension B": ("𠀀𠀁𠀂𠀃𠀄𠀅", "𠀀𠀁𠀂𠀃𠀄𠀆")}
scores = [f"{name} {bleu.corpus_score([text], [[right]]).score:.1f}" for name, (text, right) in pairs.items()]
print(f"of five right characters in six: {', '.join(scores)}")
P
PYTHONPATH=packages PYTHONIOENCODING=utf-8 python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
'好的' -> ['好', '的']
'𠮷𠀀' -> ['𠮷𠀀']
'x→y' -> ['x', '→', 'y']
of five right characters in six: common ones 76.0, of extension B 0.0
S
