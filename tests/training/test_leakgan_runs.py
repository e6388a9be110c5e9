"""Runs of LeakGAN: all phases from a config, killed and resumed, and as the start of another run."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import tiny_experiment

from gptgan_jax import sample
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.models.trees import nested
from gptgan_jax.runs.experiment import Experiment, load_experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import Records, read_metrics
from gptgan_jax.training.loop import train
from gptgan_jax.training.run import Run
from gptgan_jax.types import GanState

pytestmark = pytest.mark.thorough  # whole runs; models/test_leakgan.py and algorithms/test_leakgan.py have the parts

LEAKING: dict[str, Any] = {
    **dict.fromkeys([f"generator.{key}" for key in ("layers", "width", "heads", "max_positions")]),
    "generator": {"kind": "leakgan", "embedding": 4, "units": 4, "goal": 3, "horizon": 2},
    **dict.fromkeys([f"discriminator.{key}" for key in ("kind", "embedding")]),
    "discriminator": {"kind": "cnn", "embedding": 4, "widths": [1, 2], "filters": 3, "highway": True},
    "objective.dense": False,
    "objective.likelihood_weight": 0.1,
    "objective.estimator": {"kind": "leakgan", "rollouts": 2},
    "likelihood.optimizer.weight_decay": 0.1,
    "adversarial.ema_decay": 0.5,
    "adversarial.discriminator_updates": 2,
    "checkpoints.keep": 9,
}


class Made(NamedTuple):
    experiment: Experiment
    folder: RunFolder


class Killed(Exception):
    """What ends a process, as far as a test can."""


def silently(line: str) -> None:
    """Takes no notice of a line."""


def state_at(made: Made, choice: str) -> GanState:
    run = Run(made.experiment, made.folder, silently)
    with Checkpoints(made.folder.checkpoints, read_only=True) as checkpoints:
        saved = checkpoints.choose(choice)
        return checkpoints.restore(saved, run.target(saved.phase))


def bits(state: GanState) -> dict[str, bytes]:
    leaves = jax.tree.leaves_with_path(state.replace(key=jax.random.key_data(state.key)))
    return {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in leaves}


def leaked(params: Any) -> dict[str, bytes]:
    return {jax.tree_util.keystr(p): np.asarray(x).tobytes() for p, x in jax.tree.leaves_with_path(params)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = Made(*tiny_experiment(tmp_path_factory.mktemp("whole"), LEAKING))
    train(*made, silently)
    return made


@pytest.mark.exhaustive
def test_every_checkpoint_reads_its_own_discriminator(whole: Made) -> None:
    seen = set()
    for step in (2, 6, 8, 10, 12, 14):
        state = state_at(whole, str(step))
        below = {name: part for name, part in state.discriminator.params.items() if name != "head"}
        for params in (state.generator.params, state.generator.averaged):
            assert leaked(params["network"]["leaked"]) == leaked(below), step
        seen.add(tuple(leaked(below).values()))
    assert len(seen) == 4  # that of the likelihood phases, and of three steps after it


@pytest.mark.cases(1)
@pytest.mark.parametrize("at", [9, 13])
def test_a_run_that_was_killed_ends_like_one_that_was_not(whole: Made, at: int, tmp_path: Path) -> None:
    made = Made(*tiny_experiment(tmp_path, LEAKING))
    write = Records.write

    def dying(self: Records, phase: Any, step: int, *rest: Any) -> Any:
        if step == at:
            raise Killed
        return write(self, phase, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "write", dying)
        with pytest.raises(Killed):
            train(*made, silently)
    train(load_experiment(made.experiment.config, made.folder.read_tokenizer()), made.folder, silently)
    assert bits(state_at(made, "last")) == bits(state_at(whole, "last"))
    assert read_metrics(made.folder.path) == read_metrics(whole.folder.path)


def test_a_run_that_starts_from_another_goes_on_with_its_features(whole: Made, tmp_path: Path) -> None:
    """Its discriminator, which stays as it was at first, has those layers below a new head."""
    config = whole.experiment.config
    phases = {
        name: dataclasses.replace(getattr(config, name), steps=0) for name in ("likelihood", "continued", "warmup")
    }
    config = dataclasses.replace(
        config,
        name="started",
        runs_folder=str(tmp_path),
        init_from=str(whole.folder.path),
        init_checkpoint="last",
        adversarial=dataclasses.replace(config.adversarial, steps=2, freeze_discriminator=True),
        seed=5,
        **phases,
    )
    started = Made(load_experiment(config), RunFolder.of(config))
    train(*started, silently)
    source, end = state_at(whole, "last"), state_at(started, "last")
    assert leaked(end.generator.params["network"]["leaked"]) == leaked(source.generator.params["network"]["leaked"])
    assert leaked(end.discriminator.params["head"]) != leaked(source.discriminator.params["head"])
    assert leaked(end.generator.params["network"]["head"]) != leaked(source.generator.averaged["network"]["head"])


def test_its_exported_sampler_writes_the_same_texts(whole: Made, tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers", reason="needs flatbuffers")
    folder = tmp_path / "out"
    assert main(["export", str(whole.folder.path), "--to", "stablehlo", "--out", str(folder)]) == 0
    sampler = jax.export.deserialize(bytearray((folder / "sampler.stablehlo").read_bytes()))
    weights = load_file(folder / "weights.safetensors")
    prompt = np.array([[1, 5, 6], [1, 7, 5]], np.int32)
    mask = np.ones((2, 3), bool)
    ours = sample(whole.experiment.generator, nested(weights), jax.random.key(3), prompt, mask, 6, 0.8)
    theirs = sampler.call(weights, np.uint32(3), prompt, mask, np.float32(0.8))
    np.testing.assert_array_equal(theirs["tokens"], ours.tokens)
    np.testing.assert_allclose(theirs["log_probs"], ours.log_probs, rtol=1e-4, atol=1e-5)


def test_it_is_sampled_like_any_other_run(whole: Made, capsys: pytest.CaptureFixture) -> None:
    assert main(["sample", str(whole.folder.path), "--num", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
