#!/usr/bin/env bash
# The synthetic oracle of GansFallingShort (commit e6be915), by which "Language GANs Falling Short" measures NLL_oracle, with
#   PyTorch 2.13.0. Its arrays are those of SeqGAN's published oracle, whose cell multiplies from the left: x W + h U + b.
# Expected: it gives SeqGAN's probabilities, so that sequences that SeqGAN's oracle draws have its entropy, 5.7 nats a token.
# Seen: the arrays become PyTorch's weight_ih and weight_hh, which multiply from the right, untransposed (only the output
#   layer is transposed). The result is another random language model: it finds SeqGAN's sequences less likely than
#   uniform ones (8.5). Its figures (likelihood training 15.26) and those by SeqGAN's oracle are of two sources.
# Output seen, nats a token of 1,000 sequences drawn from SeqGAN's oracle:
#   by SeqGAN's formulas 5.73, by this oracle 10.34, by this oracle with its gates transposed 5.73
# Exits non-zero if that changes. Needs git; GANS_FALLING_SHORT may name a copy of the repository.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
git clone --quiet --no-checkout "${GANS_FALLING_SHORT:-https://github.com/pclucas14/GansFallingShort}" toolkit
git -C toolkit checkout --quiet e6be915b1aed7843d83f7d543bfb8de9f3d3461f -- common synthetic_data_experiments
python3 -m pip install --quiet --disable-pip-version-check --target packages torch==2.13.0 numpy==2.4.6 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import numpy as np
import torch

from utils import get_oracle

arrays = {name: np.load(f"oracle_params/{name}.npz") for name in (
    "embedding", "wi", "ui", "bi", "wf", "uf", "bf", "wog", "uog", "bog", "wc", "uc", "bc", "wo", "bo")}
rng = np.random.default_rng(0)
COUNT, LENGTH = 1000, 20


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def seqgan():
    """Sequences drawn by the formulas of SeqGAN's target_lstm.py, and their nats a token."""
    a = arrays
    token, h, c, nats, drawn = np.zeros(COUNT, int), np.zeros((COUNT, 32)), np.zeros((COUNT, 32)), 0.0, []
    for _ in range(LENGTH):
        x = a["embedding"][token]
        gate = {g: x @ a[f"w{g}"] + h @ a[f"u{g}"] + a[f"b{g}"] for g in ("i", "f", "og", "c")}
        c = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["c"])
        h = sigmoid(gate["og"]) * np.tanh(c)
        logits = h @ a["wo"] + a["bo"]
        logits -= logits.max(axis=1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        token = np.minimum((np.exp(log_probs).cumsum(axis=1) < rng.random((COUNT, 1))).sum(axis=1), 4999)
        nats -= log_probs[np.arange(COUNT), token].mean() / LENGTH
        drawn.append(token)
    return np.stack(drawn, axis=1), nats


def toolkit(texts, oracle):
    """Nats a token by the toolkit's oracle."""
    texts = torch.tensor(texts)
    inputs = torch.cat([torch.zeros(COUNT, 1, dtype=torch.long), texts[:, :-1]], dim=1)
    with torch.no_grad():
        logits = oracle(inputs)[0]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts.flatten()))


texts, own = seqgan()
oracle = get_oracle()
theirs = toolkit(texts, oracle)
for weight in (oracle.rnns[0].weight_ih_l0, oracle.rnns[0].weight_hh_l0):
    weight.data = torch.cat([gate.T for gate in weight.data.split(32)])
transposed = toolkit(texts, oracle)
print(f"by SeqGAN's formulas {own:.2f}, by this oracle {theirs:.2f}, by this oracle with its gates transposed {transposed:.2f}")
P
(cd toolkit/synthetic_data_experiments && PYTHONPATH="$work/toolkit/common:$work/packages" python3 "$work/see.py") 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
by SeqGAN's formulas 5.73, by this oracle 10.34, by this oracle with its gates transposed 5.73
S
