#!/usr/bin/env bash
# optax 0.2.8: Adam on parameters in bfloat16, as it is and within inject_hyperparams, which a learning rate that can be
#   looked at or changed during a run takes.
# Expected: the same steps, to the three digits of bfloat16.
# Seen: not a number, from the first step on. inject_hyperparams casts every number of the optimizer to the type of the
#   gradients: b2 = 0.999 becomes 1, the second moment stays 0, and so does what corrects its bias. With
#   hyperparam_dtype=float32 the steps are right.
# Output seen:
#   adam: -0.001 -0.001 -0.001
#   inject_hyperparams(adam): nan nan nan, b2 1.0
#   the same, hyperparam_dtype=float32: -0.001 -0.001 -0.001, b2 0.999
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 \
  2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import jax.numpy as jnp
import optax

injected = {"learning_rate": 1e-3}
optimizers = {
    "adam": optax.adam(1e-3),
    "inject_hyperparams(adam)": optax.inject_hyperparams(optax.adam)(**injected),
    "the same, hyperparam_dtype=float32": optax.inject_hyperparams(optax.adam, hyperparam_dtype=jnp.float32)(**injected),
}
weights, gradients = jnp.ones(4, jnp.bfloat16), jnp.full(4, 0.5, jnp.bfloat16)
for name, optimizer in optimizers.items():
    state, steps = optimizer.init(weights), []
    for _ in range(3):
        updates, state = optimizer.update(gradients, state, weights)
        steps.append(f"{float(updates[0]):.3f}")
    decay = "" if name == "adam" else f", b2 {float(state.hyperparams['b2']):.4}"
    print(f"{name}: {' '.join(steps)}{decay}")
P
PYTHONPATH=packages JAX_PLATFORMS=cpu python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
adam: -0.001 -0.001 -0.001
inject_hyperparams(adam): nan nan nan, b2 1.0
the same, hyperparam_dtype=float32: -0.001 -0.001 -0.001, b2 0.999
S
