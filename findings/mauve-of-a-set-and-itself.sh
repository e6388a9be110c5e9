#!/usr/bin/env bash
# mauve-text 0.4.0 (faiss-cpu 1.15.1, scikit-learn 1.9.1): MAUVE of a set of vectors and the very same set.
# Expected: 1, the largest value that there is; and another value where one of two sets is ten times as long.
# Seen: 0.75 where all vectors are one (a generator that repeats its only text, which is the only right one), and where two
#   clusters hold half each, as of ten texts they often do. The divergence curve's points are sorted by one coordinate, and
#   those that tie with its ends change places. Vectors are scaled to length 1 first, so that ten times as long is the same.
# Output seen:
#   one text 40 times: 0.75
#   ten texts: 0.75
#   nineteen texts: 1.00
#   300 texts against others like them, and ten times as long: the same value
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages --no-deps mauve-text==0.4.0 faiss-cpu==1.15.1 \
  scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6 joblib==1.6.0 threadpoolctl==3.8.0 narwhals==2.29.0 requests==2.34.2 \
  tqdm==4.70.1 packaging==26.3 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import mauve
import numpy as np


def of(p, q):
    return f"{mauve.compute_mauve(p_features=p, q_features=q, verbose=False).mauve:.2f}"


def vectors(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


print(f"one text 40 times: {of(*[np.ones((40, 16), np.float32)] * 2)}")
for name, count in {"ten": 10, "nineteen": 19}.items():
    print(f"{name} texts: {of(vectors(count), vectors(count))}")
texts, others = vectors(300), vectors(300, seed=1)
same = of(texts, others) == of(texts, 10 * others)
print(f"300 texts against others like them, and ten times as long: {'the same value' if same else 'different values'}")
P
PYTHONPATH=packages python3 see.py 2> error.log | grep -v WARNING | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
one text 40 times: 0.75
ten texts: 0.75
nineteen texts: 1.00
300 texts against others like them, and ten times as long: the same value
S
