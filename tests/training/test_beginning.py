"""What a run begins with is what it would begin with if everything were initialised, and no more is computed."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hf_folders import write_model
from tiny import tiny_experiment

from gptgan_jax.objectives.optimizers import parameter_paths
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.training.beginning import Traced, absent
from gptgan_jax.training.loop import train
from gptgan_jax.training.phase_run import PhaseRun
from gptgan_jax.training.run import Run
from gptgan_jax.training.signals import Interrupted
from gptgan_jax.types import Batch, GanState, path_name

OWN_KEYS = {f"generator.{name}": None for name in ("layers", "width", "heads", "max_positions")}
ADAPTED = {"generator.lora.rank": 2}
TWIN = {
    "discriminator.kind": "transformer",
    "discriminator.embedding": None,
    "discriminator.from_generator": True,
}
RUNS: dict[str, dict[str, Any]] = {
    "adapters and a twin with some": {**ADAPTED, **TWIN, "discriminator.lora": {"rank": 1, "targets": ["qkv"]}},
    "scanned": {**ADAPTED, **TWIN, "generator.scan_layers": True, "discriminator.lora.rank": 2},
    "a twin, and all learns": TWIN,
    "another discriminator": ADAPTED,
}


def run_of(folder: Path, keys: dict[str, Any]) -> Run:
    write_model(folder / "model")
    experiment, run_folder = tiny_experiment(folder, {**OWN_KEYS, "init_from": f"hf:{folder / 'model'}", **keys})
    return Run(experiment, run_folder, lambda line: None)


def begun(run: Run) -> GanState:
    """The first state, of a run of which `train` has written what it starts from."""
    train(run.experiment, run.folder, lambda line: None)
    return run.first_state()


def flat(params: Any) -> dict[str, bytes]:
    return {
        path: np.asarray(x).tobytes() for path, x in zip(parameter_paths(params), jax.tree.leaves(params), strict=True)
    }


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("name", RUNS)
def test_what_is_new_is_what_it_would_be_if_all_were_initialised_and_the_rest_is_the_models(
    name: str, tmp_path: Path
) -> None:
    """To the bit: a run and its seed stay what they were, whatever else is initialised."""
    run = run_of(tmp_path, RUNS[name])
    assert run.experiment.start is not None
    model = flat(run.experiment.start.params())
    all_new = jax.jit(run.new_state)(jax.random.key(run.config.seed))
    state = begun(run)
    assert jax.tree.structure(state) == jax.tree.structure(all_new)
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(all_new.key))
    assert int(state.step) == int(state.begun) == 0
    writer, fresh = flat(state.generator.params), flat(all_new.generator.params)
    assert writer == {path: model.get(path, fresh[path]) for path in fresh}
    judge, fresh = flat(state.discriminator.params), flat(all_new.discriminator.params)
    shared = model if run.has_twin else {}
    # The generator's adapters, where the discriminator has its Transformer.
    shared |= {path.replace("lora_", "given_"): x for path, x in writer.items() if "lora_" in path}
    assert judge == {path: shared.get(path, fresh[path]) for path in fresh}


def test_a_twin_of_a_new_generator_has_its_transformer(tmp_path: Path) -> None:
    network = {f"discriminator.{name}": size for name, size in {"layers": 1, "width": 8, "heads": 2}.items()}
    experiment, folder = tiny_experiment(tmp_path, {**TWIN, **network, "discriminator.max_positions": 16})
    run = Run(experiment, folder, lambda line: None)
    all_new, state = jax.jit(run.new_state)(jax.random.key(run.config.seed)), run.first_state()
    assert flat(state.generator.params) == flat(all_new.generator.params)
    assert flat(state.discriminator.params["trunk"]) == flat(state.generator.params["trunk"])
    assert flat(state.discriminator.params["head"]) == flat(all_new.discriminator.params["head"])
    shared = zip(jax.tree.leaves(state.generator.params), jax.tree.leaves(state.discriminator.params), strict=False)
    assert not any(one is other for one, other in shared), "a step donates them all"


def test_nothing_that_is_given_is_computed() -> None:
    """A callback on each leaf says which are."""
    computed: list[str] = []

    def leaf(name: str, key: jax.Array) -> jax.Array:
        def seen(x: np.ndarray) -> np.ndarray:
            computed.append(name)
            return x

        value = jax.random.normal(key, (3,))
        return jax.pure_callback(seen, jax.ShapeDtypeStruct((3,), jnp.float32), value)

    def make(key: jax.Array) -> dict[str, jax.Array]:
        return {name: leaf(name, jax.random.fold_in(key, i)) for i, name in enumerate("abc")}

    traced = Traced(make)
    found = traced.some(jax.random.key(7), {"a": False, "b": True, "c": False})
    assert computed == ["b"]
    np.testing.assert_array_equal(found["b"], jax.jit(make)(jax.random.key(7))["b"])
    assert isinstance(found["a"], jax.ShapeDtypeStruct)


@pytest.mark.thorough
def test_of_a_run_from_a_model_the_adapters_and_the_head_alone_are_initialised(tmp_path: Path) -> None:
    run = run_of(tmp_path, RUNS["adapters and a twin with some"])
    train(run.experiment, run.folder, lambda line: None)
    computed: set[str] = set()

    def watched(init: Callable[..., Any], role: str) -> Callable[..., Any]:
        def initialise(key: jax.Array, batch: Batch) -> Any:
            def note(path: Any, x: jax.Array) -> jax.Array:
                def seen(value: np.ndarray) -> np.ndarray:
                    computed.add(f"{role}/{path_name(path)}")
                    return value

                return jax.pure_callback(seen, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

            return jax.tree.map_with_path(note, init(key, batch))

        return initialise

    generator, discriminator = run.experiment.generator, run.experiment.discriminator
    players = {
        "generator": generator._replace(init=watched(generator.init, "writer")),
        "discriminator": discriminator._replace(init=watched(discriminator.init, "judge")),
    }
    again = Run(dataclasses.replace(run.experiment, **players), run.folder, lambda line: None)
    jax.block_until_ready(again.first_state())
    assert computed
    adapters = "lora_a", "lora_b", "given_a", "given_b"
    assert [path for path in computed if not path.endswith(adapters) and "/head/" not in path] == []


@pytest.mark.thorough
def test_a_signal_while_the_model_is_validated_as_it_came_stops_the_run_and_it_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, RUNS["another discriminator"])
    pause = PhaseRun.pause

    def stopping(self: PhaseRun, what: str, done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        pause(self, what, done, total)

    with monkeypatch.context() as patch:
        patch.setattr(PhaseRun, "pause", stopping)
        with pytest.raises(Interrupted, match="stopped by SIGTERM before the first step"):
            train(run.experiment, run.folder, lambda line: None)
    assert read_metrics(run.folder.path) == []
    train(run.experiment, run.folder, lambda line: None)
    assert [line["step"] for line in read_metrics(run.folder.path) if "valid_nats_per_token" in line][:2] == [0, 2]


def test_absent_is_what_the_other_tree_lacks() -> None:
    tree = {"a": {"x": 1, "y": 2}, "b": {"z": {"w": 3}}}
    assert absent(tree, {"a": {"x": 0}}) == {"a": {"x": False, "y": True}, "b": {"z": {"w": True}}}
    assert absent(tree, tree) == jax.tree.map(lambda _: False, tree)
    assert absent(tree, {}) == jax.tree.map(lambda _: True, tree)
