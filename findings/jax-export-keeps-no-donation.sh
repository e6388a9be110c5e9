#!/usr/bin/env bash
# jax 0.10.2: a training step that donates its state, exported by jax.export and read back, called as it is and within jit.
# Expected: the program that was exported gives its state's memory to the new state, as the jitted step does.
# Seen: it does not, in the same process or another, and there is no warning: the old state stays, and a state that just
#   fitted is there twice. Only a jit around the call that itself donates brings it back.
# Output seen:
#   jitted step: the old state is gone
#   exported, called: the old state is kept
#   exported, called within jit: the old state is kept
#   exported, called within jit that donates: the old state is gone
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages jax==0.10.2 jaxlib==0.10.2 flatbuffers==25.12.19 \
  2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import jax
import jax.numpy as jnp
from jax import export

step = jax.jit(lambda state: state + 1, donate_argnums=0)
read = export.deserialize(export.export(step)(jax.ShapeDtypeStruct((1_000,), jnp.float32)).serialize())
ways = {
    "jitted step": step,
    "exported, called": read.call,
    "exported, called within jit": jax.jit(read.call),
    "exported, called within jit that donates": jax.jit(read.call, donate_argnums=0),
}
for name, call in ways.items():
    state = jnp.zeros(1_000)
    call(state).block_until_ready()
    print(f"{name}: the old state is {'gone' if state.is_deleted() else 'kept'}")
P
PYTHONPATH=packages JAX_PLATFORMS=cpu python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
[ ! -s error.log ] || cat error.log
diff seen - <<'S'
jitted step: the old state is gone
exported, called: the old state is kept
exported, called within jit: the old state is kept
exported, called within jit that donates: the old state is gone
S
