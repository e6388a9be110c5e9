#!/usr/bin/env bash
# The rescaled rewards of LeakGAN's own code (CR-Gjx/LeakGAN, commit 4044de6): the paper's bootstrapped rescaled activation, which
#   replaces the scores of a batch by a sigmoid of their ranks.
# Expected: the text that the discriminator scores highest gets the highest reward, and the lowest the lowest.
# Seen: the ranks are counted in the order of a dict's keys, which nothing sorts. In Python 3 that is the order of the texts in the
#   batch, whatever they score; in Python 2.7, for which the code was written, it is that of a hash table. The manager of the
#   published LeakGAN learned from such rewards.
# Output seen, from the repository's function, which is the same for all of its data sets:
#   scores  0.9 0.1 0.5 0.3 -> rewards 0.018 0.500 0.982 1.000
#   scores  0.1 0.3 0.5 0.9 -> rewards 0.018 0.500 0.982 1.000
# Exits non-zero if that changes. Needs git; LEAKGAN may name a copy of the repository.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
git clone --quiet --no-checkout "${LEAKGAN:-https://github.com/CR-Gjx/LeakGAN}" toolkit
git -C toolkit show "4044de626dbfcfddb51e56645d0edc11c340e6a7:Synthetic Data/Main.py" > Main.py
python3 -m pip install --quiet --disable-pip-version-check --target packages numpy==2.4.6 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import ast

import numpy as np

# Its module needs TensorFlow 1; these two functions of it need NumPy alone, and mean the same in Python 3.
wanted = ("redistribution", "rescale")
tree = ast.parse(open("Main.py").read())
tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
names = {"np": np}
exec(compile(tree, "Main.py", "exec"), names)
for scores in ([0.9, 0.1, 0.5, 0.3], [0.1, 0.3, 0.5, 0.9]):
    print("scores ", *scores, "-> rewards", *(f"{reward:.3f}" for reward in names["rescale"]([scores])[0]))
P
PYTHONPATH=packages python3 see.py | tee seen
diff seen - <<'S'
scores  0.9 0.1 0.5 0.3 -> rewards 0.018 0.500 0.982 1.000
scores  0.1 0.3 0.5 0.9 -> rewards 0.018 0.500 0.982 1.000
S
