#!/usr/bin/env bash
# The rewards of rollouts in TextGAN-PyTorch (commit 7ff8909), from which it trains SeqGAN and SentiGAN, with PyTorch 2.13.0.
#   The discriminator here scores a text by its first token alone, which every continuation of the text keeps.
# Expected: a text's rewards are the mean scores of its own continuations, so all equal to its own score.
# Seen: they are means of other texts' scores. The scores are stored as [rollouts * length, texts] and then read as
#   [texts, length, rollouts] by view(), which moves no axis. At the toolkit's own sizes, 64 texts of 20 tokens and 16
#   rollouts, each reward is a mean over 16 texts, of which the token's own is at most one. Figures of these methods by this
#   toolkit therefore say little about the methods.
# Output seen:
#   text 0, score 0.0: rewards 0.05 0.25 0.05
#   text 1, score 0.1: rewards 0.25 0.05 0.25
#   text 2, score 0.2: rewards 0.05 0.25 0.05
#   text 3, score 0.3: rewards 0.25 0.05 0.25
# Exits non-zero if that changes. Needs git; TEXTGAN_PYTORCH may name a copy of the repository.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
git clone --quiet "${TEXTGAN_PYTORCH:-https://github.com/williamSYSU/TextGAN-PyTorch}" toolkit
git -C toolkit checkout --quiet 7ff8909e92fe01160275a6d62a34ffdfcc018bca
python3 -m pip install --quiet --disable-pip-version-check --target packages torch==2.13.0 numpy==2.4.6 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import torch

torch.cuda.set_device = lambda device: None  # the toolkit selects a GPU when it is imported, also where there is none
from utils.rollout import ROLLOUT

TEXTS, LENGTH, ROLLOUTS, WORDS = 4, 3, 2, 5


class Uniform(torch.nn.Module):
    """A generator that draws every token uniformly."""

    name, max_seq_len, vocab_size = "uniform", LENGTH, WORDS

    def init_hidden(self, batch_size):
        return None

    def forward(self, tokens, hidden, need_hidden=False):
        return torch.full((tokens.numel(), WORDS), 1 / WORDS).log(), hidden


class FirstToken(torch.nn.Module):
    """A discriminator whose probability of "real" is a tenth of the first token."""

    def forward(self, texts):
        real = texts[:, 0] / 10
        return torch.stack([1 - real, real], dim=1).log()


texts = torch.tensor([[i, 4, 4] for i in range(TEXTS)])
rewards = ROLLOUT(Uniform(), gpu=False).get_reward(texts, ROLLOUTS, FirstToken())
for i, row in enumerate(rewards.tolist()):
    print(f"text {i}, score {i / 10:.1f}: rewards", *(f"{reward:.2f}" for reward in row))
P
(cd toolkit && PYTHONPATH="$PWD:../packages" python3 ../see.py) 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
text 0, score 0.0: rewards 0.05 0.25 0.05
text 1, score 0.1: rewards 0.25 0.05 0.25
text 2, score 0.2: rewards 0.05 0.25 0.05
text 3, score 0.3: rewards 0.25 0.05 0.25
S
