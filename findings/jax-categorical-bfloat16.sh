#!/usr/bin/env bash
# jax 0.10.2 on a CPU: jax.random.categorical draws tokens from logits in bfloat16, as a network that computes in it gives them.
# Expected: of 1,000 equally likely tokens, whose logits have no digits to round, each hundred is a tenth of the draws.
# Seen: the Gumbel noise is in bfloat16 too and takes few values at its upper end. The largest sums tie, and of those the
#   lowest id wins: the first hundred tokens come up in most draws, the last hundred almost never. Sampled text is of
#   another distribution than the log-probabilities say, which policy gradients take for the ones drawn from.
# Output seen:
#   float32: 10% of the first hundred tokens, 10% of the last
#   bfloat16: 54% of the first hundred tokens, 0% of the last
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages jax==0.10.2 jaxlib==0.10.2 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import jax
import jax.numpy as jnp

for dtype in (jnp.float32, jnp.bfloat16):
    drawn = jax.random.categorical(jax.random.key(0), jnp.zeros((40_000, 1_000), dtype))
    first, last = (f"{100 * float(jnp.mean(part)):.0f}%" for part in (drawn < 100, drawn >= 900))
    print(f"{jnp.dtype(dtype).name}: {first} of the first hundred tokens, {last} of the last")
P
PYTHONPATH=packages JAX_PLATFORMS=cpu python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
float32: 10% of the first hundred tokens, 10% of the last
bfloat16: 54% of the first hundred tokens, 0% of the last
S
