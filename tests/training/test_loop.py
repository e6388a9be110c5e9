"""The loop: a run killed anywhere and continued ends as if it had never been, and one that goes wrong says where.

Whole runs are compared: every array of the last checkpoint bit by bit, and the records line by line.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config, tiny_experiment, write_config

from gptgan_jax.algorithms.learning import Learning
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.data.batches import batch_at
from gptgan_jax.reports.run import alarms_in
from gptgan_jax.runs.experiment import Experiment, load_experiment, load_start
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import Records, read_metrics, read_samples
from gptgan_jax.runs.timing import read_times
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.training import phase_run
from gptgan_jax.training import run as training_run
from gptgan_jax.training.loop import train
from gptgan_jax.training.phase_run import METRIC, SKIPPED, PhaseRun
from gptgan_jax.training.phases import build_gan
from gptgan_jax.training.sharding import Placement
from gptgan_jax.training.signals import CutShort, Interrupted, NotFinite
from gptgan_jax.types import GanState
from gptgan_jax.workflows.run import is_finished

SHORT = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}
# What a step may carry from one to the next is all in use: accumulated gradients, a reference, a moving average.
KEYS = {
    "likelihood.optimizer.accumulate": 2,
    "likelihood.optimizer.schedule": "cosine",
    "objective.kl_weight": 0.1,
    "generator.dropout": 0.1,
    "adversarial.generator_optimizer.learning_rate": 0.01,
}


class Killed(BaseException):
    """As sudden as SIGKILL for all that catches errors."""


def silently(line: str) -> None:
    """Takes no notice of a line."""


def target(experiment: Experiment, phase: str) -> GanState:
    gan = build_gan(experiment.config, phase, experiment.generator, experiment.discriminator)
    shapes = jax.eval_shape(gan.init, jax.random.key(0), experiment.example_batch())
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)


def state_at(experiment: Experiment, folder: RunFolder, choice: str) -> GanState:
    """The state of the checkpoint that `Checkpoints.choose` gives for a name."""
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        saved = checkpoints.choose(choice)
        return checkpoints.restore(saved, target(experiment, saved.phase))


def raw(tree: Any) -> dict[str, np.ndarray]:
    """Every array of a tree by its path, PRNG keys as their bits."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(_bits(leaf)) for path, leaf in leaves}


def _bits(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_same_end(one: RunFolder, other: RunFolder, experiment: Experiment) -> None:
    first, second = (raw(state_at(experiment, folder, "last")) for folder in (one, other))
    assert first.keys() == second.keys()
    assert [path for path in first if first[path].tobytes() != second[path].tobytes()] == []
    assert read_metrics(one.path) == read_metrics(other.path)
    assert (one.path / "samples.txt").read_bytes() == (other.path / "samples.txt").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """Runs of one experiment share their compiled functions, as each would trace equal ones: most of their time."""
    kept: dict[Any, Any] = {}

    def once(name: str, key_of: Callable[..., tuple]) -> None:
        make = getattr(training_run, name)

        def remembered(*arguments: Any) -> Any:
            key = name, *key_of(*arguments)
            # What the key names by its id is kept too, so that nothing else gets that id.
            if key not in kept:
                kept[key] = make(*arguments), arguments
            return kept[key][0]

        patch.setattr(training_run, name, remembered)

    with pytest.MonkeyPatch.context() as patch:
        once("build_gan", lambda config, *rest: (dataclasses.replace(config, runs_folder="any"), *map(id, rest)))
        once("skipping", lambda gan: (id(gan),))
        once("likelihood_of", lambda generator: (id(generator),))
        once("TextWriter", lambda generator, tokenizer, *sizes: (id(generator), id(tokenizer), *sizes))
        yield


class Whole(NamedTuple):
    """A run that nothing interrupted, the first batch of each of its phases, and of each step the arrays it was given:
    whether they are gone after it."""

    experiment: Experiment
    folder: RunFolder
    first_batches: list[bytes]
    written_into: list[list[bool]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    firsts: list[bytes] = []

    def noting(split: Any, seed: int, position: int, *rest: int) -> Any:
        batch = batch_at(split, seed, position, *rest)
        firsts.extend([np.asarray(batch.target).tobytes()] if position == 0 else [])
        return batch

    written_into: list[list[bool]] = []
    compiled = Placement.compiled

    def watched(placement: Placement, step: Any, shapes: GanState, learning: Learning) -> Any:
        made = compiled(placement, step, shapes, learning)

        def run(state: GanState, batch: Any) -> Any:
            given = jax.tree.leaves(learning.only(state))
            after = made(state, batch)
            written_into.append([x.is_deleted() for x in given])
            return after

        return run

    experiment, folder = tiny_experiment(tmp_path_factory.mktemp("whole"), KEYS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_run, "batch_at", noting)
        patch.setattr(Placement, "compiled", watched)
        train(experiment, folder, silently)
    return Whole(experiment, folder, firsts, written_into)


def beside(whole: Whole, folder: Path) -> tuple[Experiment, RunFolder]:
    """The same experiment in another runs folder."""
    config = dataclasses.replace(whole.experiment.config, runs_folder=str(folder))
    return dataclasses.replace(whole.experiment, config=config), RunFolder.of(config)


def saving(at: int) -> Callable[..., bool]:
    return lambda phase, state, *figures: state.step == at


def writing(at: int) -> Callable[..., bool]:
    return lambda phase, step, *_: step == at


def kill_at(monkeypatch: pytest.MonkeyPatch, cls: type, method: str, when: Callable[..., bool], after: bool) -> None:
    """Ends the process, as far as a test can, before or after a method's call."""
    original = getattr(cls, method)

    def dying(self: object, *arguments: Any, **options: Any) -> Any:
        doomed = when(*arguments)
        if doomed and not after:
            raise Killed
        result = original(self, *arguments, **options)
        if doomed:
            raise Killed
        return result

    monkeypatch.setattr(cls, method, dying)


# Likelihood makes steps 1-6, the baseline 7-8, the warm-up 9-10, the adversarial phase 11-14; every second is saved.
KILLS = {
    "before the first checkpoint": (Records, "write", writing(1), True),
    "between two checkpoints": (Records, "write", writing(3), True),
    "after the records, before the checkpoint": (Checkpoints, "save", saving(4), False),
    "after the last of a phase": (Checkpoints, "save", saving(6), True),
    "in continued likelihood training": (Records, "write", writing(7), True),
    "after the last of the baseline": (Checkpoints, "save", saving(8), True),
    "in the warm-up": (Records, "write", writing(9), True),
    "in the adversarial phase": (Records, "write", writing(13), False),
    "before the very last checkpoint": (Checkpoints, "save", saving(14), False),
}


@pytest.mark.always
@pytest.mark.parametrize(
    "points",
    [
        pytest.param(list(KILLS), id="everywhere", marks=pytest.mark.thorough),
        pytest.param(["in the adversarial phase"], id="once"),
    ],
)
def test_a_run_that_was_killed_ends_like_one_that_was_not(whole: Whole, points: list[str], tmp_path: Path) -> None:
    experiment, folder = beside(whole, tmp_path)
    for point in points:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, *KILLS[point])
            with pytest.raises(Killed):
                train(experiment, folder, silently)
    train(experiment, folder, silently)
    assert_same_end(whole.folder, folder, experiment)


def test_a_run_killed_while_its_folder_was_made_can_be_started_again(whole: Whole, tmp_path: Path) -> None:
    experiment, folder = beside(whole, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, Path, "replace", lambda target: target == folder.config_file, False)
        with pytest.raises(Killed):
            folder.create(experiment.config, experiment.tokenizer)
    assert folder.check(experiment.config) is False


SELF_KILLING = """
import os, sys
from gptgan_jax.cli import main
from gptgan_jax.runs.records import Records
number, at, config = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
write = Records.write

def writing(self, phase, step, *figures):
    recorded = write(self, phase, step, *figures)
    if step == at:
        os.kill(os.getpid(), number)
    return recorded

Records.write = writing
sys.exit(main(["train", config]))
"""


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("number", "at", "status"),
    [
        (signal.SIGTERM, 3, 0),
        pytest.param(signal.SIGINT, 11, 130, marks=pytest.mark.thorough),
        pytest.param(signal.SIGKILL, 13, -9, marks=pytest.mark.thorough),
    ],
)
def test_a_signal_stops_a_run_that_the_same_command_continues(whole: Whole, number, at, status, tmp_path: Path) -> None:
    data = {"data.train": whole.experiment.config.data.train}
    config = write_config(tmp_path, KEYS | data)
    done = subprocess.run(
        [sys.executable, "-c", SELF_KILLING, str(int(number)), str(at), str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    experiment, folder = beside(whole, tmp_path / "runs")
    if number != signal.SIGKILL:
        last = done.stderr.splitlines()[-1]
        assert f"stopped by {signal.Signals(number).name} at step {at + 1}; saved in {folder.path}" in last
        assert "the same command resumes from here" in last
        assert state_at(experiment, folder, "last").step == at + 1
    heard: list[str] = []
    train(experiment, folder, heard.append)
    assert heard[0].startswith(f"resuming {folder.path} in phase")
    assert_same_end(whole.folder, folder, experiment)


@pytest.mark.thorough
def test_an_evaluation_that_a_signal_cuts_short_is_made_at_the_next_start(whole: Whole, tmp_path: Path) -> None:
    """Also at the end of a phase, and at that of the run, which isn't finished by then; and twice at one step."""
    experiment, folder = beside(whole, tmp_path)
    evaluate, pause = PhaseRun.evaluate, PhaseRun.pause
    for step in (4, 4, 6, 8, 12, 14):
        asked: list[tuple[str, int]] = []

        def evaluating(self: PhaseRun, state: GanState, step: int = step, asked: list = asked) -> Any:
            asked[:] = [("", 0)] if int(state.step) == step else []
            return evaluate(self, state)

        def pausing(self: PhaseRun, what: str, done: int, total: int, asked: list = asked) -> None:
            if asked:
                asked.append((what, done))
            if len(asked) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            pause(self, what, done, total)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PhaseRun, "evaluate", evaluating)
            patch.setattr(PhaseRun, "pause", pausing)
            with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step {step}; saved in"):
                train(experiment, folder, silently)
        assert asked[1:] == [("validation", 0), ("validation", 8)], "no batch is begun after it"
        assert state_at(experiment, folder, "last").step == step
        assert not is_finished(folder, experiment.config)
    train(experiment, folder, silently)
    assert is_finished(folder, experiment.config)
    assert_same_end(whole.folder, folder, experiment)
    with (
        Checkpoints(folder.checkpoints, read_only=True) as here,
        Checkpoints(whole.folder.checkpoints, read_only=True) as there,
    ):
        assert here.all() == there.all()


@pytest.mark.thorough
def test_an_evaluation_that_is_made_later_is_recorded_once_though_its_checkpoint_was_not_saved(
    whole: Whole, tmp_path: Path
) -> None:
    experiment, folder = beside(whole, tmp_path)
    evaluate = PhaseRun.evaluate
    for step in (4, 12):

        def cut_short(self: PhaseRun, state: GanState, step: int = step) -> Any:
            if state.step == step:
                self.signals.number = signal.SIGTERM
                raise CutShort
            return evaluate(self, state)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PhaseRun, "evaluate", cut_short)
            with pytest.raises(Interrupted):
                train(experiment, folder, silently)
        for _ in range(2):
            with pytest.MonkeyPatch.context() as patch:
                kill_at(patch, Checkpoints, "save", saving(step), False)
                with pytest.raises(Killed):
                    train(experiment, folder, silently)
    train(experiment, folder, silently)
    assert_same_end(whole.folder, folder, experiment)


# ---- checkpoints of a run


@pytest.mark.thorough
def test_a_checkpoint_cut_short_is_set_aside_and_the_one_before_it_continues(whole: Whole, tmp_path: Path) -> None:
    experiment, folder = beside(whole, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, *KILLS["before the very last checkpoint"])
        with pytest.raises(Killed):
            train(experiment, folder, silently)
    for path in (folder.checkpoints / "adversarial" / "12" / "default" / "d").iterdir():
        os.truncate(path, path.stat().st_size // 2)
    heard: list[str] = []
    train(experiment, folder, heard.append)
    assert heard[0].startswith("checkpoint adversarial/12 can't be read (")
    assert heard[0].endswith("using the one before")
    assert heard[1].endswith("in phase warmup at step 10")
    assert_same_end(whole.folder, folder, experiment)


@pytest.mark.thorough
def test_the_baseline_and_the_warmup_begin_from_the_best_likelihood_checkpoint(whole: Whole, tmp_path: Path) -> None:
    """The later ones are told to be worse than the first; the baseline's steps don't reach the warm-up's generator."""
    experiment, folder = beside(whole, tmp_path)
    save = Checkpoints.save
    heard: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda self, phase, state, *_: save(self, phase, state, float(state.step)))
        kill_at(patch, Records, "write", writing(11), False)
        with pytest.raises(Killed):
            train(experiment, folder, heard.append)
    best, *others, after = (raw(state_at(experiment, folder, at).generator.params) for at in ("2", "6", "8", "10"))
    assert heard.count("taking the generator of the best likelihood checkpoint, step 2") == 2
    assert all(after[path].tobytes() == best[path].tobytes() for path in best)
    for other in others:
        assert any(after[path].tobytes() != other[path].tobytes() for path in best)


@pytest.mark.thorough
def test_a_broken_best_likelihood_checkpoint_is_passed_over_for_the_next_best(whole: Whole, tmp_path: Path) -> None:
    experiment, folder = beside(whole, tmp_path)
    heard: list[str] = []
    save, restore = Checkpoints.save, Checkpoints.restore

    def broken(self: Checkpoints, saved: Any, target: GanState) -> GanState:
        if saved.step == 2:
            raise OSError("gone")
        return restore(self, saved, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda self, phase, state, *_: save(self, phase, state, float(state.step)))
        patch.setattr(Checkpoints, "restore", broken)
        train(experiment, folder, heard.append)
    assert "warning: likelihood checkpoint of step 2 can't be read (gone); trying another" in heard
    assert heard.count("taking the generator of the best likelihood checkpoint, step 4") == 2


@pytest.mark.thorough
def test_the_baseline_learns_from_as_many_texts_as_the_adversarial_phase(tmp_path: Path) -> None:
    experiment, folder = tiny_experiment(
        tmp_path, {"continued.steps": None, "adversarial.steps": 3, "adversarial.batch_size": 5}
    )
    train(experiment, folder, silently)
    lines = [line for line in read_metrics(folder.path) if line["phase"] == "continued" and "loss" in line]
    assert [line["step"] for line in lines] == [7, 8, 9]
    assert experiment.config.batch_size("continued") == 5


@pytest.mark.thorough
def test_a_frozen_discriminator_judges_and_does_not_learn(tmp_path: Path) -> None:
    experiment, folder = tiny_experiment(tmp_path, {"adversarial.freeze_discriminator": True})
    train(experiment, folder, silently)
    before, after = state_at(experiment, folder, "warmup"), state_at(experiment, folder, "last")
    learned = {
        role: [
            not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(x.params), jax.tree.leaves(y.params), strict=True)
        ]
        for role, x, y in (
            ("generator", before.generator, after.generator),
            ("discriminator", before.discriminator, after.discriminator),
        )
    }
    assert any(learned["generator"])
    assert not any(learned["discriminator"])


def test_each_phase_starts_with_a_new_optimiser_and_the_adversarial_one_with_a_reference(whole: Whole) -> None:
    experiment, folder = whole.experiment, whole.folder
    warmup, end = state_at(experiment, folder, "10"), state_at(experiment, folder, "last")
    assert warmup.reference is None
    best = raw(warmup.generator.params)
    assert all(best[path].tobytes() == array.tobytes() for path, array in raw(end.reference).items())
    counts = [array for path, array in raw(end.generator.opt_state).items() if path.endswith(".count")]
    assert counts
    assert all(count == experiment.config.adversarial.steps for count in counts)


# ---- records


def test_a_line_of_metrics_every_log_every_steps_and_at_the_end_of_a_phase(tmp_path: Path) -> None:
    keys = {"likelihood.steps": 7, "evaluation.log_every": 3, "evaluation.every": 100}
    experiment, folder = tiny_experiment(tmp_path, SHORT | keys)
    train(experiment, folder, silently)
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [3, 6, 7]
    assert [line["step"] for line in lines if "valid_nats_per_token" in line] == [7]
    assert [block.step for block in read_samples(folder.path)] == [7]


@pytest.mark.thorough
def test_validation_on_the_way_scores_as_many_texts_as_max_texts(tmp_path: Path) -> None:
    keys = {"likelihood.steps": 1, "evaluation.max_texts": 3}
    experiment, folder = tiny_experiment(tmp_path, SHORT | keys)
    train(experiment, folder, silently)
    params = state_at(experiment, folder, "last").generator.params
    batch = jax.tree.map(lambda x: x[:3], next(phase_run.evaluation_batches(experiment.valid, 8)))
    expected = training_run.likelihood_of(experiment.generator)(params, [batch]).per_token().value
    assert read_metrics(folder.path)[-1]["valid_nats_per_token"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["reinforce", "spin", "distill"])
def test_alarms_watch_the_steps_of_every_estimator_and_no_validation(kind: str) -> None:
    step: dict[str, object] = {"step": 3, "gradient_norm": 1.0, "real_length": 4.0}
    step |= {"discriminator_accuracy": 0.5} if kind == "reinforce" else {"loss": 0.5}
    run: Any = SimpleNamespace(phase="adversarial")
    assert PhaseRun.watched(run, step)
    assert not PhaseRun.watched(run, step | {SKIPPED: 1})
    assert not PhaseRun.watched(run, {"step": 3, METRIC: 2.0})


@pytest.mark.thorough
def test_an_alarm_is_recorded_once_when_it_begins_in_the_order_of_its_finding(
    whole: Whole, tmp_path, monkeypatch
) -> None:
    names = [f"alarm {i}" for i in range(9)]
    monkeypatch.setattr(phase_run, "adversarial_alarms", lambda lines: {n: f"{n}!" for n in names if len(lines) >= 2})
    experiment, folder = beside(whole, tmp_path)
    train(experiment, folder, silently)
    alarms = [(line["phase"], line["step"], line["alarm"]) for line in read_metrics(folder.path) if "alarm" in line]
    assert sorted(alarms) == [("adversarial", 12, f"{name}!") for name in names]
    assert alarms == [("adversarial", 12, f"{name}!") for name in names], "the order differs from process to process"


def test_every_step_writes_into_the_arrays_of_the_state_that_it_was_given(whole: Whole) -> None:
    """On a CPU JAX quietly copies what it should write into while a NumPy view of it lives: two states at once."""
    assert len(whole.written_into) > 10
    assert all(map(all, whole.written_into))


# ---- what goes wrong


SPOILT = (11, 12, 13)


def poison(monkeypatch: pytest.MonkeyPatch, phase: str, bad: tuple[int, ...]) -> None:
    """Makes the loss and the parameters of some steps of a phase NaN."""
    name = {"likelihood": "likelihood_step", "warmup": "discriminator_step", "adversarial": "adversarial_step"}[phase]
    real = training_run.build_gan

    def poisoned(config: Any, which: str, *networks: Any) -> Any:
        gan = real(config, which, *networks)
        step = getattr(gan, name)

        def broken(state: GanState, batch: Any) -> Any:
            after, metrics = step(state, batch)
            factor = jnp.where(jnp.isin(state.step + 1, jnp.array(bad)), jnp.nan, 1.0)
            after = after.replace(generator=jax.tree.map(lambda x: (factor * x).astype(x.dtype), after.generator))
            loss = "discriminator_loss" if "discriminator_loss" in metrics else "loss"
            return after, metrics | {loss: factor * metrics[loss]}

        return gan._replace(**{name: broken}) if which == phase else gan

    monkeypatch.setattr(training_run, "build_gan", poisoned)


@pytest.mark.thorough
def test_steps_that_go_wrong_are_skipped_told_of_and_recorded(
    whole: Whole, tmp_path: Path, monkeypatch, capsys
) -> None:
    poison(monkeypatch, "adversarial", SPOILT)
    experiment, folder = beside(whole, tmp_path)
    config = dataclasses.replace(experiment.config.evaluation, log_every=100)
    experiment = dataclasses.replace(experiment, config=dataclasses.replace(experiment.config, evaluation=config))
    train(experiment, folder, silently)
    said = capsys.readouterr().err
    for count, step in enumerate(SPOILT, start=1):
        assert f"step {step} skipped: discriminator_loss not finite; {count} in a row, max_skips is 10" in said
    lines = [line for line in read_metrics(folder.path) if "discriminator_loss" in line]
    skips = [(line["step"], line["skipped"], line["discriminator_loss"]) for line in lines if "skipped" in line]
    assert skips == [(11, 1, None), (12, 2, None), (13, 3, None)], "each, whatever log_every is"
    end = state_at(experiment, folder, "last")
    assert (int(end.step), int(end.skipped)) == (14, 0)
    assert all(np.isfinite(array).all() for array in raw(end.generator).values())
    assert [str(alarm) for alarm in alarms_in(read_metrics(folder.path))] == [
        "adversarial, step 11: 3 step(s) from here on were skipped: not finite"
    ]


@pytest.mark.exhaustive
def test_a_run_killed_between_skipped_steps_ends_like_one_that_was_not(whole: Whole, tmp_path, monkeypatch) -> None:
    """Step 12 is saved amid three skipped ones: the count, too, goes on from there."""
    poison(monkeypatch, "adversarial", SPOILT)
    for name in ("killed", "whole"):
        experiment, folder = beside(whole, tmp_path / name)
        if name == "killed":
            with pytest.MonkeyPatch.context() as patch:
                kill_at(patch, Records, "write", writing(13), True)
                with pytest.raises(Killed):
                    train(experiment, folder, silently)
            assert state_at(experiment, folder, "last").skipped == 2
        train(experiment, folder, silently)
    assert_same_end(beside(whole, tmp_path / "whole")[1], beside(whole, tmp_path / "killed")[1], experiment)


@pytest.mark.thorough
def test_too_many_skipped_steps_in_a_row_stop_the_run_and_name_the_last_good_checkpoint(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Raising the bound, which is no other run, goes on from there."""
    keys = SHORT | {"data.train": whole.experiment.config.data.train}
    config = write_config(tmp_path, keys | {"max_skips": 1})
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, "likelihood", (4, 5))
        assert main(["train", str(config)]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(
            "gptgan: loss not finite at step 5 (phase likelihood, after 1 skipped steps); the last good checkpoint is"
        )
        assert "likelihood/4; lower the learning rate" in last
        assert last.endswith("or raise max_skips and resume")
        experiment, folder = tiny_experiment(tmp_path, keys)
        train(experiment, folder, silently)
    assert [line["step"] for line in read_metrics(folder.path) if "skipped" in line] == [4, 5]
    assert state_at(experiment, folder, "last").step == 6


@pytest.mark.thorough
def test_a_phase_of_which_no_step_could_be_made_is_an_error(whole: Whole, tmp_path: Path, monkeypatch) -> None:
    poison(monkeypatch, "warmup", (9, 10))
    experiment, folder = beside(whole, tmp_path)
    with pytest.raises(NotFinite, match=r"discriminator_loss not finite at step 10 \(phase warmup, after 1 skipped"):
        train(experiment, folder, silently)


@pytest.mark.cases(1)
@pytest.mark.parametrize("steps", [1, 6], ids=["in the last step", "on the way"])
def test_a_learning_rate_that_blows_up_stops_the_run_and_leaves_no_broken_checkpoint(
    whole: Whole, steps, tmp_path
) -> None:
    keys = {"likelihood.optimizer.learning_rate": 1e30, "likelihood.optimizer.clip_norm": None, "evaluation.every": 1}
    data = {"data.train": whole.experiment.config.data.train}
    experiment, folder = tiny_experiment(tmp_path, SHORT | keys | data | {"likelihood.steps": steps})
    with pytest.raises(NotFinite, match=r"phase likelihood\); no checkpoint was saved yet"):
        train(experiment, folder, silently)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        assert checkpoints.all() == []


# ---- data


def test_each_phase_has_its_own_order_of_the_text(whole: Whole) -> None:
    assert len(whole.first_batches) == 4
    assert len(set(whole.first_batches)) == 4


def test_the_library_loads_what_a_config_names_without_writing(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    load_experiment(config)
    assert sorted(tmp_path.rglob("*")) == before


# ---- a run that starts from another


SHORT_PHASES = ("continued", "warmup", "adversarial")


class Started(NamedTuple):
    """A run without a likelihood phase that starts from a copy of `whole`, and that copy."""

    experiment: Experiment
    folder: RunFolder
    source: RunFolder


def started_from(whole: Whole, parent: Path, **changes: Any) -> Started:
    """Not trained yet."""
    source = RunFolder(parent / "source")
    shutil.copytree(whole.folder.path, source.path)
    config = dataclasses.replace(
        whole.experiment.config,
        name="started",
        runs_folder=str(parent),
        init_from=str(source.path),
        **{"likelihood": dataclasses.replace(whole.experiment.config.likelihood, steps=0)} | changes,
    )
    return Started(load_experiment(config), RunFolder.of(config), source)


@pytest.fixture(scope="module")
def started(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Started:
    made = started_from(whole, tmp_path_factory.mktemp("started"))
    train(made.experiment, made.folder, silently)
    return made


def best_of(folder: RunFolder, choice: str = "likelihood") -> dict[str, np.ndarray]:
    params, _ = load_params(folder, load_writer(folder), choice)
    return raw(params)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(one[path].tobytes() == other[path].tobytes() for path in one)


@pytest.mark.thorough
def test_it_starts_from_the_others_best_and_so_does_its_adversarial_phase(whole: Whole, started: Started) -> None:
    """Its steps are 1-2 continued, 3-4 warm-up, 5-8 adversarial."""
    best = best_of(whole.folder)
    assert same(raw(started.experiment.start.params()), best)
    assert same(raw(state_at(started.experiment, started.folder, "4").generator.params), best)
    assert not same(raw(state_at(started.experiment, started.folder, "2").generator.params), best)
    assert not same(raw(state_at(started.experiment, started.folder, "8").generator.params), best)
    assert started.experiment.tokenizer.vocabulary == whole.experiment.tokenizer.vocabulary


@pytest.mark.thorough
def test_its_own_likelihood_training_goes_on_from_there(whole: Whole, tmp_path: Path) -> None:
    still = dataclasses.replace(whole.experiment.config.likelihood.optimizer, learning_rate=1e-30)
    phase = dataclasses.replace(whole.experiment.config.likelihood, steps=2, optimizer=still)
    short = {name: dataclasses.replace(getattr(whole.experiment.config, name), steps=0) for name in SHORT_PHASES}
    made = started_from(whole, tmp_path, likelihood=phase, init_checkpoint="last", **short)
    train(made.experiment, made.folder, silently)
    assert same(best_of(made.folder), best_of(whole.folder, "last"))
    assert not same(best_of(made.folder), best_of(whole.folder))


@pytest.mark.cases(2)
@pytest.mark.thorough
@pytest.mark.parametrize(
    "at",
    [0, pytest.param(1, marks=pytest.mark.thorough), 3, pytest.param(7, marks=pytest.mark.thorough)],
    ids=lambda at: f"after step {at}",
)
def test_it_resumes_bit_identically_without_the_other_run(
    whole: Whole, started: Started, at: int, tmp_path: Path
) -> None:
    made = started_from(whole, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        if at:
            kill_at(patch, Records, "write", writing(at), True)
        else:
            kill_at(patch, Records, "open", lambda *arguments: True, False)
        with pytest.raises(Killed):
            train(made.experiment, made.folder, silently)
    shutil.rmtree(made.source.path)
    resumed = load_experiment(made.experiment.config, made.folder.read_tokenizer())
    train(resumed, made.folder, silently)
    assert_same_end(started.folder, made.folder, started.experiment)


def test_its_tokenizer_is_that_of_the_other_though_its_text_is_another(whole: Whole, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("two cats run\ntwo cats fly\n")
    data = dataclasses.replace(whole.experiment.config.data, **dict.fromkeys(("train", "valid", "test"), str(few)))
    experiment = started_from(whole, tmp_path, data=data).experiment
    assert experiment.tokenizer.vocabulary == whole.experiment.tokenizer.vocabulary
    assert experiment.tokenizer.encode("two cats run") == whole.experiment.tokenizer.encode("two cats run")
    assert any("checkpoint likelihood/" in note for note in experiment.notes)


@pytest.mark.thorough
def test_the_average_is_what_is_taken_where_the_other_keeps_one(whole: Whole, tmp_path: Path) -> None:
    adversarial = dataclasses.replace(whole.experiment.config.adversarial, ema_decay=0.5, steps=2)
    short = {name: dataclasses.replace(getattr(whole.experiment.config, name), steps=0) for name in SHORT_PHASES[:2]}
    made = started_from(whole, tmp_path, adversarial=adversarial, **short)
    train(made.experiment, made.folder, silently)
    config = made.experiment.config
    start = load_start(dataclasses.replace(config, init_from=str(made.folder.path), init_checkpoint="last"))
    state = state_at(made.experiment, made.folder, "last")
    assert same(raw(start.params()), raw(state.generator.ema))
    assert not same(raw(start.params()), raw(state.generator.params))


@pytest.mark.thorough
def test_the_time_of_each_phase_is_kept(started: Started) -> None:
    times = read_times(started.folder.path)
    assert list(times) == ["continued", "warmup", "adversarial"]
    assert all(time.processor > 0 and time.wall > 0 for time in times.values())


@pytest.mark.thorough
def test_each_update_of_the_discriminator_has_fresh_text(whole: Whole, tmp_path: Path) -> None:
    """The generator answers as many texts as with one update."""
    rows: list[int] = []
    adversarial = dataclasses.replace(whole.experiment.config.adversarial, steps=1, discriminator_updates=3)
    short = {name: dataclasses.replace(getattr(whole.experiment.config, name), steps=0) for name in SHORT_PHASES[:2]}
    made = started_from(whole, tmp_path, adversarial=adversarial, **short)

    def noting(*arguments: Any) -> Any:
        batch = batch_at(*arguments)
        rows.append(len(batch.target))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_run, "batch_at", noting)
        train(made.experiment, made.folder, silently)
    assert set(rows) == {3 * adversarial.batch_size}


@pytest.mark.exhaustive
def test_only_likelihood_training_has_batches_of_several_widths(whole: Whole, tmp_path: Path) -> None:
    widths: dict[str, set[int]] = {}
    execute = phase_run.PhaseRun.execute

    def noting(self: Any, state: Any) -> Any:
        step = self.step

        def noted(state: Any, batch: Any) -> Any:
            widths.setdefault(self.phase, set()).add(batch.target.shape[1])
            return step(state, batch)

        self.step = noted
        return execute(self, state)

    config = whole.experiment.config
    likelihood = dataclasses.replace(config.likelihood, length_buckets=3, steps=20)
    experiment = dataclasses.replace(whole.experiment, config=dataclasses.replace(config, likelihood=likelihood))
    experiment, folder = beside(whole._replace(experiment=experiment), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_run.PhaseRun, "execute", noting)
        train(experiment, folder, silently)
    assert widths["likelihood"] == {4, 6}  # none of its texts fits the first bucket, of two tokens
    assert widths["warmup"] == widths["adversarial"] == {config.data.max_length}
