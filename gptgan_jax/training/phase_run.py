"""One phase of a run: batches in, steps, records and checkpoints out. Metrics are read one step late."""

import math
from collections.abc import Generator, Mapping

import jax
import numpy as np

from gptgan_jax.config import LIKELIHOOD, PHASES, Phase
from gptgan_jax.data.batches import batch_at, evaluation_batches, prefetch
from gptgan_jax.data.labelled_batches import labelled_batch_at
from gptgan_jax.data.length_buckets import bucketed_batch_at
from gptgan_jax.runs.checkpoints import Checkpoints
from gptgan_jax.runs.keeping import CLASS_METRIC, METRIC, TASK_METRIC
from gptgan_jax.runs.records import Records, one_line, read_metrics
from gptgan_jax.runs.timing import Stopwatch
from gptgan_jax.training.alarms import active_alarms, likelihood_alarms
from gptgan_jax.training.gan import Metrics
from gptgan_jax.training.phases import step_of
from gptgan_jax.training.profiling import Profiler
from gptgan_jax.training.progress import Progress
from gptgan_jax.training.run import Run
from gptgan_jax.training.signals import StopSignals
from gptgan_jax.training.skipping import SKIPPED
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


JUDGING: tuple[Phase, ...] = ("warmup", "adversarial")
"""The phases that train the discriminator."""


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
        self.step = run.placement.compiled(step_of(run.gans[phase], phase), run.target(phase))
        earlier = [line for line in read_metrics(run.folder.path) if line["phase"] == phase]
        self.lines = [line for line in earlier if self.judged(line)]
        self.alarms = set(self.active())

    def execute(self, state: GanState) -> GanState:
        """Makes the steps from the state's to the phase's last."""
        run, every = self.run, self.run.config.evaluation.every
        start = int(state.step)
        tokens = round(self.rows * len(run.experiment.train.targets.tokens) / len(run.experiment.train))
        pending: tuple[int, Metrics] | None = None
        watch = Stopwatch(run.folder.path, self.phase, resumed=start > self.first, active=run.is_main)
        batches = self.batches(start)
        with Progress.open(self.phase, self.last - self.first, start - self.first, active=run.is_main) as self.bar:
            try:
                for step in range(start + 1, self.last + 1):
                    batch = next(batches)
                    with self.profiler.step(step):
                        state, metrics = self.step(state, batch)
                    self.profiler.made(step, metrics)
                    if pending is not None:
                        self.read(*pending, tokens)
                    pending = (step, metrics)
                    due = step == self.last or (step - self.first) % every == 0
                    stopping = self.signals.received(step)
                    if due or stopping:
                        self.read(*pending, tokens)
                        pending = None
                        with self.bar.paused():
                            self.keep(state, *(self.evaluate(state) if due else (None, None, None)))
                            watch.save()
                    if stopping or (due and self.signals.received(step)):
                        self.stop(step)
            finally:
                batches.close()
        return state

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """This process's share of the phase's batches, on the devices, from global step `step` on."""
        run = self.run
        seed = int(np.random.SeedSequence([run.config.seed, PHASES.index(self.phase)]).generate_state(1)[0])

        share = run.placement.share(self.rows)
        labelled = run.config.objective.classification.labelled_share
        buckets = run.config.likelihood.length_buckets

        def make(position: int) -> Batch:
            place = run.experiment.train, seed, position, self.rows
            if labelled is not None and self.phase in JUDGING:
                return labelled_batch_at(*place, labelled, *share)
            if buckets > 1 and self.phase in LIKELIHOOD:
                return bucketed_batch_at(*place, buckets, *share)
            return batch_at(*place, *share)

        return prefetch(make, step - self.first, run.placement.put)

    def read(self, step: int, metrics: Metrics, tokens: int) -> None:
        """Looks at a step's metrics: records some, and all of a step that was left out."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        skipped = int(values.pop(SKIPPED))
        if skipped:
            self.skip(step, values, skipped)
        figures = {short: values[name] for name, short in BAR_FIGURES.items() if name in values}
        self.bar.update(step - self.first, tokens, figures)
        logged = (step - self.first) % self.run.config.evaluation.log_every == 0 or step == self.last
        if logged and not skipped:
            self.watch(step, self.records.write(self.phase, step, values))

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

    def judged(self, line: Mapping[str, object]) -> bool:
        """Whether alarms are read off such a line of the records."""
        name = "discriminator_accuracy" if self.phase == "adversarial" else "loss"
        return SKIPPED not in line and (name in line or (METRIC in line and self.phase in LIKELIHOOD))

    def active(self) -> dict[str, str]:
        """The alarms that hold by the lines so far."""
        if self.phase == "adversarial":
            return active_alarms(self.lines)
        return likelihood_alarms(self.lines) if self.phase in LIKELIHOOD else {}

    def watch(self, step: int, values: Mapping[str, float | None]) -> None:
        """Raises an alarm when it begins to hold, judged by the figures as they were recorded."""
        if not self.judged(values):
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

    def evaluate(self, state: GanState) -> tuple[float | None, float | None, float | None]:
        """Of the players that this phase trained, validation figures into the records; those of `Saved`."""
        judging = self.phase in JUDGING and self.run.config.classifies
        with self.run.placement.surroundings():
            nats, task_error = self.evaluate_generator(state) if self.phase != "warmup" else (None, None)
            return nats, self.evaluate_classes(state) if judging else None, task_error

    def evaluate_classes(self, state: GanState) -> float:
        """How the discriminator tells validation text's classes, into the records; the share that it gets wrong."""
        run, step = self.run, int(state.step)
        evaluation = run.config.evaluation
        batches = evaluation_batches(run.experiment.valid, evaluation.batch_size, evaluation.max_texts)
        told = run.classified(state.discriminator.params, batches).labelled()
        accuracy, nats = told.accuracy().value, told.nats().value
        if accuracy is None or nats is None or not math.isfinite(nats):
            raise self.not_finite(step, "the classes' validation loss")
        f1 = told.macro_f1_value()
        figures = {CLASS_METRIC: 1 - accuracy, "valid_macro_f1": f1, "valid_class_nats": nats}
        self.records.write(self.phase, step, figures)
        self.bar.message(
            f"{self.phase} step {step}: {accuracy:.1%} of {len(told)} validation texts told right, macro-F1 {f1:.3f}"
        )
        return 1 - accuracy

    def evaluate_generator(self, state: GanState) -> tuple[float, float | None]:
        """Validation loss, sample texts and how far answers are from right into the records; the first, in nats a
        token, and the last, where checkpoints are chosen by it."""
        run, step = self.run, int(state.step)
        evaluation = run.config.evaluation
        batches = evaluation_batches(run.experiment.valid, evaluation.batch_size, evaluation.max_texts)
        nll = run.held_out(state.generator.averaged, batches).per_token()
        if nll.value is None or not math.isfinite(nll.value):
            raise self.not_finite(step, METRIC)
        error = nll.error or 0.0
        figures = {METRIC: nll.value, "valid_standard_error": error}
        task_error = run.task_error(state.generator.averaged)
        if task_error is not None:
            figures[TASK_METRIC] = task_error
        self.watch(step, self.records.write(self.phase, step, figures))
        lines = run.shown_texts(state.generator.averaged)
        self.records.samples(self.phase, step, lines)
        answers = "" if task_error is None else f", task error {task_error:.4f}"
        self.bar.message(
            f"{self.phase} step {step}: validation {nll.value:.4f} ± {error:.4f} nats/token{answers}; "
            f"writes: {one_line(lines[0])}"
        )
        return nll.value, task_error

    def stop(self, step: int) -> None:
        self.checkpoints.wait()
        raise Interrupted(
            self.signals.number,
            f"stopped by {self.signals.name} at step {step}; saved in {self.run.folder.path}; "
            "the same command goes on from here",
        )
