"""A run killed by SIGKILL at random instants, in every phase and while it saves, ends like one that never was.

`make torture` has the longer version.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from torture import PHASES, Outcome, tortured

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved

# What the longer version goes through, besides the shorter one's.
METHODS: dict[str, dict[str, Any]] = {
    "transformer, moving average": {},
    "LSTM, learned baseline": {
        "generator.kind": "lstm",
        "generator.layers": 1,
        "generator.width": None,
        "generator.heads": None,
        "generator.max_positions": None,
        "generator.embedding": 6,
        "generator.hidden": 8,
        "objective.estimator.baseline": "learned",
    },
    "PPO, two updates of a CNN": {
        "objective.estimator.kind": "ppo",
        "objective.estimator.epochs": 2,
        "objective.estimator.minibatches": 2,
        "discriminator.kind": "cnn",
        "adversarial.discriminator_updates": 2,
    },
    "Gumbel-softmax": {"objective.estimator.kind": "gumbel"},
}


def kept(run: Path) -> dict[Saved, dict[str, bytes]]:
    """Every array of every checkpoint that a run kept, as bytes."""
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        return {saved: arrays_of(run / "checkpoints" / saved.phase / str(saved.step)) for saved in checkpoints.all()}


def arrays_of(step: Path) -> dict[str, bytes]:
    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore(step / "default")
    return {
        jax.tree_util.keystr(path): np.asarray(_bits(leaf)).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _bits(leaf: Any) -> Any:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def best(run: Path) -> list[Saved | None]:
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        return [checkpoints.best(phase) for phase in PHASES]


def assert_nothing_was_lost(outcome: Outcome) -> None:
    whole = kept(outcome.whole)
    assert {saved.phase for saved in whole} == set(PHASES)
    assert all(len(arrays) > 20 for arrays in whole.values())
    for run in outcome.killed:
        here = kept(run)
        assert list(here) == list(whole), "the same checkpoints, with the same validation losses"
        for saved, arrays in whole.items():
            assert here[saved].keys() == arrays.keys()
            assert [path for path in arrays if here[saved][path] != arrays[path]] == [], saved
        assert best(run) == best(outcome.whole)
        for name in ("metrics.jsonl", "samples.txt"):
            assert (run / name).read_bytes() == (outcome.whole / name).read_bytes(), name
        assert not list((run / "checkpoints").glob("unreadable*")), "what a kill leaves is never taken for damage"


@pytest.mark.exhaustive
@pytest.mark.parametrize(("kills", "cut"), [(4, 1), (20, 3)])
def test_a_run_killed_at_random_instants_loses_nothing(kills: int, cut: int, tmp_path: Path) -> None:
    outcome = tortured(tmp_path, kills=kills, seed=0)
    assert len(outcome.kills) == kills
    assert {kill.phase for kill in outcome.kills} >= set(PHASES)
    assert sum(kill.cut for kill in outcome.kills) >= cut, "while a checkpoint was being written"
    assert len(kept(outcome.whole)) > len(PHASES), "some phase's best is not its latest"
    assert_nothing_was_lost(outcome)


@pytest.mark.torture
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_no_method_loses_anything_to_more_kills(method: str, seed: int, tmp_path: Path) -> None:
    outcome = tortured(tmp_path, kills=25, seed=seed, keys=METHODS[method])
    assert {kill.phase for kill in outcome.kills} >= set(PHASES)
    assert_nothing_was_lost(outcome)
