"""One phase of a run: batches in, steps, records and checkpoints out. Metrics are read one step late."""

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext
from functools import partial

import jax
import numpy as np

from gptgan_jax.algorithms.gan import Metrics
from gptgan_jax.algorithms.skipping import SKIPPED
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.retention import CLASS_METRIC, METRIC, TASK_METRIC
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import LIKELIHOOD, PHASES, Config, Phase
from gptgan_jax.data.batches import batch_at, evaluation_batches, labelled_batch_at, prefetch
from gptgan_jax.data.length_buckets import bucketed_batch_at
from gptgan_jax.data.packing import Rows, packed_batch_at
from gptgan_jax.errors import UserError
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.pace import paused
from gptgan_jax.metrics.class_scores import Told
from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.pretrained.hub import is_model
from gptgan_jax.runs.records import Records, one_line, read_metrics
from gptgan_jax.runs.timing import Stopwatch
from gptgan_jax.training.alarms import active_alarms, likelihood_alarms
from gptgan_jax.training.phases import step_of
from gptgan_jax.training.profiling import Profiler
from gptgan_jax.training.progress import Progress
from gptgan_jax.training.run import Run
from gptgan_jax.training.signals import CutShort, StopSignals
from gptgan_jax.types import Batch, GanState

BAR_FIGURES = {
    "loss": "loss",
    "discriminator_loss": "D loss",
    "discriminator_accuracy": "D accuracy",
    "prompt_accuracy": "on a prompt",
    "class_loss": "class loss",
    "class_accuracy": "class accuracy",
    "reward": "reward",
    "entropy": "entropy",
    "kl": "KL",
    "repetition": "repeats",
}


Figures = tuple[float | None, float | None, float | None]
"""A checkpoint's nats a token, class error and task error, each if it was measured."""

DISCRIMINATING: tuple[Phase, ...] = ("warmup", "adversarial")
"""The phases that train the discriminator."""


def is_due(config: Config, phase: Phase, step: int) -> bool:
    """Whether an evaluation comes after a global step, which is one of the phase's."""
    made = step - sum(config.steps(earlier) for earlier in PHASES[: PHASES.index(phase)])
    return made == config.steps(phase) or made % config.evaluation.every == 0


def owes_evaluation(config: Config, saved: Saved) -> bool:
    """Whether a checkpoint lacks figures of the evaluation that was due, as a signal cut it short."""
    discriminated = saved.phase in DISCRIMINATING and config.classifies
    lacks = (saved.phase != "warmup" and saved.valid_nats is None) or (discriminated and saved.class_error is None)
    return lacks and is_due(config, saved.phase, saved.step)


class NotFinite(RuntimeError):
    """Numbers were NaN or infinite too often; the message names the step, the phase and the last good checkpoint."""


class Interrupted(BaseException):
    """A signal asked the run to stop; everything is saved. `signal` is its number."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class PhaseRun:
    """One phase of a run."""

    def __init__(
        self,
        run: Run,
        phase: Phase,
        records: Records,
        checkpoints: Checkpoints,
        signals: StopSignals,
        profiler: Profiler,
    ) -> None:
        self.run = run
        self.phase: Phase = phase
        self.records = records
        self.checkpoints = checkpoints
        self.signals = signals
        self.profiler = profiler
        self.first, self.last = run.first_step(phase), run.last_step(phase)
        self.rows = run.config.rows(phase)
        gan = run.gans[phase]
        self.step = run.placement.compiled(step_of(gan, phase), run.target(phase), gan.learning)
        earlier = [line for line in read_metrics(run.folder.path) if line["phase"] == phase]
        self.lines = [line for line in earlier if self.watched(line)]
        self.alarms = set(self.active())

    def execute(self, state: GanState) -> GanState:
        """Makes the steps from the state's to the phase's last."""
        run = self.run
        start = int(state.step)
        train, packed = run.experiment.train, self.packed
        mean = len(train.targets.tokens) / len(train) if packed is None else packed.tokens / len(packed)
        tokens = round(self.rows * mean)
        pending: tuple[int, Metrics] | None = None
        watch = Stopwatch(run.folder.path, self.phase, resumed=start > self.first, active=run.is_main)
        batches = self.batches(start)
        compiled: set[tuple[int, ...]] = set()
        with Progress.open(self.phase, self.last - self.first, start - self.first, active=run.is_main) as self.bar:
            try:
                if not start and is_model(run.config.init_from) and self.phase in LIKELIHOOD:
                    with self.bar.paused():
                        self.evaluate_start(state)
                for step in range(start + 1, self.last + 1):
                    batch = next(batches)
                    # A step is brought to its end by a signal, but not the compilation before the first of a shape.
                    with self.signals.uncut() if batch.target.shape in compiled else nullcontext():
                        with self.profiler.step(step):
                            state, metrics = self.step(state, batch)
                        self.profiler.made(step, metrics)
                        if pending is not None:
                            self.read(*pending, tokens)
                    compiled.add(batch.target.shape)
                    pending = (step, metrics)
                    due, stopping = is_due(run.config, self.phase, step), self.signals.received()
                    if due or stopping:
                        with self.signals.uncut():
                            self.read(*pending, tokens)
                        pending = None
                        with self.bar.paused():
                            stopping = self.look_at(state, evaluated=due and not stopping)
                            watch.save()
                    if stopping or (due and self.signals.received()):
                        self.stop(step)
            finally:
                batches.close()
        return state

    def evaluate_start(self, state: GanState) -> None:
        """Evaluates the model as it came. No step is made, so that a signal leaves nothing to save."""
        try:
            self.evaluate(state)
        except CutShort:
            raise Interrupted(
                self.signals.number,
                f"stopped by {self.signals.name} before the first step; the same command begins "
                f"{self.run.folder.path} again",
            ) from None

    def catch_up(self, state: GanState, saved: Saved) -> None:
        """Makes the evaluation of a restored state that is owed, and saves its checkpoint anew with the figures."""
        done = saved.step - self.first
        with Progress.open(self.phase, self.last - self.first, done, active=self.run.is_main) as self.bar:
            if self.look_at(state, evaluated=True, instead_of=saved) or self.signals.received():
                self.stop(saved.step)

    def look_at(self, state: GanState, evaluated: bool, instead_of: Saved | None = None) -> bool:
        """Evaluates a state, if it shall be, and saves it; whether a signal cut the evaluation short.

        Its checkpoint then has no figures: the next start makes the evaluation.

        Args:
            state: after a step.
            evaluated: whether an evaluation is due, and nothing speaks against it.
            instead_of: its checkpoint without figures, where there is one.
        """
        figures: Figures = (None, None, None)
        stopped = not evaluated
        if evaluated:
            # A signal that comes while this compiles ends the process, and only then is this done, in another thread.
            self.signals.rescue = None if instead_of or jax.process_count() > 1 else partial(self.save, state, figures)
            try:
                figures = self.evaluate(state)
            except CutShort:
                stopped = True
        with self.signals.uncut():
            self.signals.rescue = None
            if instead_of is None:
                self.keep(state, *figures)
            elif not stopped:
                self.checkpoints.forget(instead_of)
                self.keep(state, *figures)
        return stopped

    def save(self, state: GanState, figures: Figures) -> None:
        """Saves a checkpoint, and returns when it is whole."""
        self.keep(state, *figures)
        self.checkpoints.wait()

    @property
    def packed(self) -> Rows | None:
        """The packed rows that this phase learns from; None where a row is a text."""
        return self.run.packed if self.phase in LIKELIHOOD else None

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """This process's share of the phase's batches, on the devices, from global step `step` on."""
        run = self.run
        seed = int(np.random.SeedSequence([run.config.seed, PHASES.index(self.phase)]).generate_state(1)[0])

        share = run.placement.share(self.rows)
        labelled = run.config.objective.classification.labelled_share
        buckets = run.config.likelihood.length_buckets
        packed = self.packed
        train = run.text_rewards.train if self.phase == "adversarial" else run.experiment.train

        def make(position: int) -> Batch:
            if packed is not None:
                return packed_batch_at(packed, seed, position, self.rows, *share)
            place = train, seed, position, self.rows
            if labelled is not None and self.phase in DISCRIMINATING:
                return labelled_batch_at(*place, labelled, *share)
            if buckets > 1 and self.phase in LIKELIHOOD:
                return bucketed_batch_at(*place, buckets, *share)
            return batch_at(*place, *share)

        return prefetch(make, step - self.first, run.placement.put)

    def read(self, step: int, metrics: Metrics, tokens: int) -> None:
        """Looks at a step's metrics: records some, and all of a step that was left out."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.check_rewards()
        skipped = int(values.pop(SKIPPED))
        if skipped:
            self.skip(step, values, skipped)
        figures = {short: values[name] for name, short in BAR_FIGURES.items() if name in values}
        self.bar.update(step - self.first, tokens, figures)
        logged = (step - self.first) % self.run.config.evaluation.log_every == 0 or step == self.last
        if logged and not skipped:
            self.watch(step, self.records.write(self.phase, step, values))

    def check_rewards(self) -> None:
        """Raises UserError where a reward function failed in a step that was made, which was left out by that."""
        try:
            self.run.text_rewards.check()
        except UserError as error:
            self.checkpoints.wait()
            good = self.checkpoints.latest()
            back = f"the last checkpoint is {good.phase}/{good.step}" if good else "no checkpoint was saved yet"
            raise UserError(f"{error}; {back}") from error

    def skip(self, step: int, values: Mapping[str, float], skipped: int) -> None:
        """Tells of a step that was left out, the `skipped`-th in a row; too many, or all of a phase, are an error."""
        what = " and ".join(name for name, value in values.items() if not math.isfinite(value)) or "the updated state"
        most = self.run.config.max_skips
        if skipped > most or skipped == self.last - self.first:
            before = f", after {skipped - 1} skipped steps" if skipped > 1 else ""
            raise self.not_finite(step, what, before, ", or raise max_skips and go on")
        self.records.write(self.phase, step, {**values, SKIPPED: skipped})
        self.bar.message(f"step {step} skipped: {what} not finite; {skipped} in a row, max_skips is {most}")

    def not_finite(self, step: int, what: str, before: str = "", way_out: str = "") -> NotFinite:
        self.checkpoints.wait()
        good = self.checkpoints.latest()
        back = f"the last good checkpoint is {good.phase}/{good.step}" if good else "no checkpoint was saved yet"
        return NotFinite(
            f"{what} not finite at step {step} (phase {self.phase}{before}); {back}; "
            f"lower the learning rate or clip_norm and start anew under another --name{way_out}"
        )

    def watched(self, line: Mapping[str, object]) -> bool:
        """Whether alarms are read off such a line of the records."""
        name = "discriminator_accuracy" if self.phase == "adversarial" else "loss"
        return SKIPPED not in line and (name in line or (METRIC in line and self.phase in LIKELIHOOD))

    def active(self) -> dict[str, str]:
        """The alarms that hold by the lines so far."""
        if self.phase == "adversarial":
            return active_alarms(self.lines)
        return likelihood_alarms(self.lines) if self.phase in LIKELIHOOD else {}

    def watch(self, step: int, values: Mapping[str, float | None]) -> None:
        """Raises an alarm when it begins to hold, by the figures as they were recorded."""
        if not self.watched(values):
            return
        self.lines.append({"step": step, **values})
        if self.phase in LIKELIHOOD and METRIC not in values:
            return
        active = self.active()
        for name in [name for name in active if name not in self.alarms]:
            self.records.alarm(self.phase, step, active[name])
            self.bar.message(f"ALARM at step {step}: {active[name]}")
        self.alarms = set(active)

    def keep(
        self, state: GanState, valid_nats: float | None, class_error: float | None, task_error: float | None
    ) -> None:
        """Saves a checkpoint, once the records that a resume would trim to it are on the disk."""
        self.records.flush()
        self.checkpoints.save(self.phase, state, valid_nats, class_error, task_error)

    def evaluate(self, state: GanState) -> Figures:
        """Records validation figures of the players that this phase trained; returns those of `Saved`.

        Raises:
            CutShort: a signal came, before anything was recorded.
        """
        discriminating = self.phase in DISCRIMINATING and self.run.config.classifies
        if not self.run.has_evaluated:
            self.bar.busy("compiling the evaluation", at_once=True)
            self.run.has_evaluated = True
        with self.run.placement.surroundings():
            validated = self.validate(state) if self.phase != "warmup" else None
            told = self.tell(state) if discriminating else None
        with self.signals.uncut():
            nats, task_error = (None, None) if validated is None else self.record_validation(state, *validated)
            return nats, None if told is None else self.record_classes(state, told), task_error

    def tell(self, state: GanState) -> Told:
        """How the discriminator tells the classes of validation text."""
        return self.run.classified(state.discriminator.params, self.validation_batches("classes")).labelled()

    def record_classes(self, state: GanState, told: Told) -> float:
        """That into the records; the share that it gets wrong."""
        step = int(state.step)
        accuracy, nats = told.accuracy().value, told.nats().value
        if accuracy is None or nats is None or not math.isfinite(nats):
            raise self.not_finite(step, "the classes' validation loss")
        f1 = told.macro_f1_value()
        figures = {CLASS_METRIC: 1 - accuracy, "valid_macro_f1": f1, "valid_class_nats": nats}
        self.records.write(self.phase, step, figures)
        self.bar.message(
            f"{self.phase} step {step}: {accuracy:.1%} of {len(told)} validation texts classified correctly, "
            f"macro-F1 {f1:.3f}"
        )
        return 1 - accuracy

    def validate(self, state: GanState) -> tuple[Estimate, float | None, list[str]]:
        """Validation loss in nats a token, how far answers are from right where checkpoints are chosen by it, and
        sample texts."""
        run, step, params = self.run, int(state.step), state.generator.averaged
        nll = run.held_out(params, self.validation_batches("validation")).per_token()
        if nll.value is None or not math.isfinite(nll.value):
            raise self.not_finite(step, METRIC)
        return nll, run.task_error(params, self.pause), run.shown_texts(params, self.pause)

    def record_validation(
        self, state: GanState, nll: Estimate, task_error: float | None, lines: list[str]
    ) -> tuple[float, float | None]:
        """These into the records; the loss and the error."""
        step = int(state.step)
        assert nll.value is not None
        error = nll.error or 0.0
        figures = {METRIC: nll.value, "valid_standard_error": error}
        if task_error is not None:
            figures[TASK_METRIC] = task_error
        self.watch(step, self.records.write(self.phase, step, figures))
        self.records.samples(self.phase, step, lines)
        answers = "" if task_error is None else f", task error {task_error:.4f}"
        self.bar.message(
            f"{self.phase} step {step}: validation {nll.value:.4f} ± {error:.4f} nats/token{answers}; "
            f"sample: {one_line(lines[0])}"
        )
        return nll.value, task_error

    def validation_batches(self, what: str) -> Iterator[Batch]:
        """Those of the validation text that is looked at; before each it can be cut short."""
        evaluation, valid = self.run.config.evaluation, self.run.experiment.valid
        total = min(len(valid), evaluation.max_texts)
        size = rows_at_once(evaluation.batch_size, total, valid.max_length * valid.vocabulary.size)
        return paused(evaluation_batches(valid, size, evaluation.max_texts), what, size, total, self.pause)

    def pause(self, what: str, done: int, total: int) -> None:
        """Shows how far an evaluation has come; raises CutShort where the run is to be stopped."""
        self.signals.check()
        self.bar.busy(f"{what}: {done:,} of {total:,} texts")

    def stop(self, step: int) -> None:
        with self.signals.uncut():
            self.checkpoints.wait()
        raise Interrupted(
            self.signals.number,
            f"stopped by {self.signals.name} at step {step}; saved in {self.run.folder.path}; "
            "the same command goes on from here",
        )
