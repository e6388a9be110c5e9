#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: a CheckpointManager that keeps the best checkpoint by a metric, of checkpoints with equal ones.
# Expected: the first of equals stays the best, as with the checkpoint callbacks of Keras and Lightning, where a later one must be better.
# Seen: the last of equals is the best and is kept; the earlier one is deleted. With a metric that ties often (a share of
#   right answers, an accuracy of few texts) the checkpoint that is kept has been trained longer, for nothing.
# Output seen:
#   best_step 3, kept [3]
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 \
  2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
import pathlib

import numpy as np
import orbax.checkpoint as ocp

options = ocp.CheckpointManagerOptions(max_to_keep=1, best_fn=lambda metrics: metrics["share"], best_mode="max")
with ocp.CheckpointManager(pathlib.Path("kept").absolute(), options=options) as manager:
    for step in (1, 2, 3):
        manager.save(step, args=ocp.args.StandardSave({"x": np.zeros(1)}), metrics={"share": 0.5})
    manager.wait_until_finished()
    print(f"best_step {manager.best_step()}, kept {list(manager.all_steps())}")
P
PYTHONPATH=packages JAX_PLATFORMS=cpu python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
best_step 3, kept [3]
S
