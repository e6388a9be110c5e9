"""One phase of a run: from batches to steps, records and checkpoints. Metrics are read one step late."""

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext
from functools import partial

import jax
import numpy as np

from gptgan_jax.algorithms.gan import Metrics
from gptgan_jax.algorithms.guards import SKIPPED
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.retention import CLASS_METRIC, METRIC, TASK_METRIC
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import LIKELIHOOD, PHASES, Phase
from gptgan_jax.config.choosing import SAMPLE_FIGURES, VALIDATION_FIGURES
from gptgan_jax.data.batches import batch_at, bucketed_batch_at, evaluation_batches, labelled_batch_at, prefetch
from gptgan_jax.data.packing import Rows, packed_batch_at
from gptgan_jax.errors import UserError
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.pace import paused
from gptgan_jax.metrics.class_scores import Told
from gptgan_jax.mixtures.rows import MixedRows
from gptgan_jax.pretrained.hub import is_model
from gptgan_jax.runs.records import Records, one_line, read_metrics
from gptgan_jax.runs.timing import Stopwatch
from gptgan_jax.scoring.choice import ChoiceFailed, StepMeans
from gptgan_jax.scoring.classifier import class_errors
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.training.alarms import adversarial_alarms, likelihood_alarms
from gptgan_jax.training.phases import DISCRIMINATING, is_due, learning_rates, step_of
from gptgan_jax.training.profiling import Profiler
from gptgan_jax.training.progress import BAR_FIGURES, Progress
from gptgan_jax.training.run import Run
from gptgan_jax.training.signals import CutShort, Interrupted, NotFinite, StopSignals
from gptgan_jax.types import Batch, GanState

Figures = tuple[float | None, float | None, float | None, float | None]
"""A checkpoint's nats per token, class error, task error and rank by another figure; None if not measured."""
UNMEASURED: Figures = (None, None, None, None)

Validated = tuple[HeldOut, float | None, list[str]]
"""Validation loss in nats per token, task error if measured, and the texts of samples.txt."""


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
        self.means = StepMeans(run.chosen_step_figure(phase), self.first, run.config.evaluation.every, earlier)
        self.alarms = set(self.active())

    def execute(self, state: GanState) -> GanState:
        """Runs the steps from the state's to the last of the phase."""
        run = self.run
        start = int(state.step)
        tokens = round(self.rows * self.tokens_a_row())
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
                    # A signal does not interrupt a step, but may interrupt compiling before the first of a shape.
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
        """Evaluates the initial model. No step has been made, so a signal leaves nothing to save."""
        try:
            self.evaluate(state, choosing=False)
        except CutShort:
            raise Interrupted(
                self.signals.number,
                f"stopped by {self.signals.name} before the first step; the same command begins "
                f"{self.run.folder.path} again",
            ) from None

    def catch_up(self, state: GanState, saved: Saved) -> None:
        """Runs the missing evaluation of a restored state, and saves its checkpoint again with the metrics."""
        done = saved.step - self.first
        with Progress.open(self.phase, self.last - self.first, done, active=self.run.is_main) as self.bar:
            if self.look_at(state, evaluated=True, instead_of=saved) or self.signals.received():
                self.stop(saved.step)

    def look_at(self, state: GanState, evaluated: bool, instead_of: Saved | None = None) -> bool:
        """Saves a state, after evaluating it if `evaluated`; returns whether a signal prevented or interrupted that.

        Its checkpoint then has no metrics, and the next start runs the evaluation.

        Args:
            state: after a step.
            evaluated: whether an evaluation is due and no signal has come.
            instead_of: the state's checkpoint without metrics, if there is one.
        """
        figures, stopped = UNMEASURED, not evaluated
        failed: ChoiceFailed | None = None
        if evaluated:
            # Called, in another thread, only if a signal ends the process during the evaluation, as while it compiles.
            self.signals.rescue = None if instead_of or jax.process_count() > 1 else partial(self.save, state, figures)
            try:
                figures = self.evaluate(state)
            except CutShort:
                stopped = True
            except ChoiceFailed as error:
                failed = error
        with self.signals.uncut():
            self.signals.rescue = None
            if instead_of is None:
                self.keep(state, *figures)
            elif not stopped and failed is None:
                with self.checkpoints.replacing(instead_of):
                    self.keep(state, *figures)
        if failed is not None:
            self.checkpoints.wait()
            raise ChoiceFailed(
                f"{failed}; step {int(state.step)} is saved in {self.run.folder.path}: fix the program, and the same "
                "command resumes from there"
            )
        return stopped

    def save(self, state: GanState, figures: Figures) -> None:
        """Saves a checkpoint, and returns when it is complete."""
        self.keep(state, *figures)
        self.checkpoints.wait()

    @property
    def packed(self) -> Rows | MixedRows | None:
        """The packed rows of this phase; None if each row is one text."""
        return self.run.packed if self.phase in LIKELIHOOD else None

    def tokens_a_row(self) -> float:
        """Mean number of target tokens per row."""
        rows = self.run.mixed if self.packed is None else self.packed
        if isinstance(rows, MixedRows):
            return rows.tokens_a_row
        train = self.run.experiment.train
        return len(train.targets.tokens) / len(train) if rows is None else rows.tokens / len(rows)

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """This process's share of the phase's batches, on the devices, starting after global step `step`."""
        run = self.run
        seed = int(np.random.SeedSequence([run.config.seed, PHASES.index(self.phase)]).generate_state(1)[0])

        share = run.placement.share(self.rows)
        labelled = run.config.objective.classification.labelled_share
        buckets = run.config.likelihood.length_buckets
        packed = self.packed
        mixed = self.run.mixed if packed is None else packed
        train = run.text_rewards.train if self.phase == "adversarial" else run.experiment.train

        def make(position: int) -> Batch:
            if isinstance(mixed, MixedRows):
                return mixed.batch_at(seed, position, self.rows, *share)
            if packed is not None and not isinstance(packed, MixedRows):
                return packed_batch_at(packed, seed, position, self.rows, *share)
            place = train, seed, position, self.rows
            if labelled is not None and self.phase in DISCRIMINATING:
                return labelled_batch_at(*place, labelled, *share)
            if buckets > 1 and self.phase in LIKELIHOOD:
                return bucketed_batch_at(*place, buckets, *share)
            return batch_at(*place, *share)

        return prefetch(make, step - self.first, run.placement.put)

    def read(self, step: int, metrics: Metrics, tokens: int) -> None:
        """Reads a step's metrics: shows them, and records those that are due or of a skipped step."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.check_rewards()
        skipped = int(values.pop(SKIPPED))
        if skipped:
            self.skip(step, values, skipped)
        figures = {short: values[name] for name, short in BAR_FIGURES.items() if name in values}
        self.bar.update(step - self.first, tokens, figures)
        logged = (step - self.first) % self.run.config.evaluation.log_every == 0 or step == self.last
        if logged and not skipped:
            shown = learning_rates(self.run.config, self.phase, step - self.first - 1) | self.bar.speed()
            recorded = self.records.write(self.phase, step, values, shown)
            self.means.note(step, recorded)
            self.watch(step, recorded)

    def check_rewards(self) -> None:
        """Raises UserError if a reward function failed in an earlier step, which was therefore skipped."""
        try:
            self.run.text_rewards.check()
        except UserError as error:
            self.checkpoints.wait()
            good = self.checkpoints.latest()
            back = f"the last checkpoint is {good.phase}/{good.step}" if good else "no checkpoint was saved yet"
            raise UserError(f"{error}; {back}") from error

    def skip(self, step: int, values: Mapping[str, float], skipped: int) -> None:
        """Reports a skipped step, the `skipped`-th in a row; raises NotFinite if too many or all of a phase are."""
        what = " and ".join(name for name, value in values.items() if not math.isfinite(value)) or "the updated state"
        most = self.run.config.max_skips
        if skipped > most or skipped == self.last - self.first:
            before = f", after {skipped - 1} skipped steps" if skipped > 1 else ""
            raise self.not_finite(step, what, before, ", or raise max_skips and resume")
        self.records.write(self.phase, step, {**values, SKIPPED: skipped})
        self.bar.message(f"step {step} skipped: {what} not finite; {skipped} in a row, max_skips is {most}")

    def not_finite(self, step: int, what: str, before: str = "", way_out: str = "") -> NotFinite:
        self.checkpoints.wait()
        good = self.checkpoints.latest()
        back = f"the last good checkpoint is {good.phase}/{good.step}" if good else "no checkpoint was saved yet"
        return NotFinite(
            f"{what} not finite at step {step} (phase {self.phase}{before}); {back}; "
            f"lower the learning rate or clip_norm and start again under another --name{way_out}"
        )

    def watched(self, line: Mapping[str, object]) -> bool:
        """Whether alarms are computed from such a line of the records."""
        name = "gradient_norm" if self.phase == "adversarial" else "loss"
        return SKIPPED not in line and (name in line or (METRIC in line and self.phase in LIKELIHOOD))

    def active(self) -> dict[str, str]:
        """The alarms that are active after the lines so far."""
        if self.phase == "adversarial":
            return adversarial_alarms(self.lines)
        return likelihood_alarms(self.lines) if self.phase in LIKELIHOOD else {}

    def watch(self, step: int, values: Mapping[str, float | None]) -> None:
        """Reports each alarm that becomes active, computed from the recorded values."""
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

    def keep(self, state: GanState, *figures: float | None) -> None:
        """Saves a checkpoint, after flushing the records that a resume would trim to it."""
        self.records.flush()
        self.checkpoints.save(self.phase, state.replace(teacher=None), *figures)

    def evaluate(self, state: GanState, choosing: bool = True) -> Figures:
        """Records validation metrics of the players that this phase trained; returns those of `Saved`.

        Args:
            state: after a step.
            choosing: whether its checkpoint can be chosen; if not, the figure of `evaluation.choose_by` is left out.

        Raises:
            CutShort: a signal came; nothing is recorded.
            ChoiceFailed: `evaluation.choose_command` failed; nothing is recorded.
        """
        discriminating = self.phase in DISCRIMINATING and self.run.config.classifies
        if not self.run.has_evaluated:
            self.bar.busy("compiling the evaluation", at_once=True)
            self.run.has_evaluated = True
        with self.run.placement.surroundings():
            validated = self.validate(state) if self.phase != "warmup" else None
            told = self.tell(state) if discriminating else None
            value = None if validated is None or not choosing else self.chosen_figure(state, validated, told)
        with self.signals.uncut():
            nats, task_error = (None, None) if validated is None else self.record_validation(state, *validated, value)
            class_error = None if told is None else self.record_classes(state, told)
            choice = self.run.choice
            return nats, class_error, task_error, None if value is None or choice is None else choice.rank(value)

    def chosen_figure(self, state: GanState, validated: Validated, told: Told | None) -> float | None:
        """The figure of `evaluation.choose_by`: NaN if it has no value, None if this phase does not record it."""
        choice, nll = self.run.choice, validated[0].per_token()
        if choice is None or self.run.figure is None:
            figures = {METRIC: nll.value, TASK_METRIC: validated[1]} | ({} if told is None else class_errors(told))
            if choice is None or choice.name in figures:
                return None if choice is None else figures[choice.name]
            return self.means.since_last_evaluation(int(state.step))
        return self.run.figure.measure(state.generator.averaged, self.pause)

    def tell(self, state: GanState) -> Told:
        """The discriminator's predicted classes of the labelled validation texts."""
        return self.run.classified(state.discriminator.params, self.validation_batches("classes")).labelled()

    def record_classes(self, state: GanState, told: Told) -> float:
        """Records the classification metrics; returns the share of misclassified texts."""
        step, figures = int(state.step), class_errors(told)
        if not math.isfinite(figures["valid_class_nats"]):
            raise self.not_finite(step, "the classes' validation loss")
        self.records.write(self.phase, step, figures)
        self.bar.message(
            f"{self.phase} step {step}: {1 - figures[CLASS_METRIC]:.1%} of {len(told)} validation texts classified "
            f"correctly, macro-F1 {figures['valid_macro_f1']:.3f}"
        )
        return figures[CLASS_METRIC]

    def validate(self, state: GanState) -> Validated:
        """The likelihood of validation text, the task error if checkpoints are chosen by it, and sampled texts."""
        run, step, params = self.run, int(state.step), state.generator.averaged
        held_out = run.held_out(params, self.validation_batches("validation")).of(run.validated.sources)
        nll = held_out.per_token()
        if nll.value is None or not math.isfinite(nll.value):
            raise self.not_finite(step, METRIC)
        return held_out, run.task_error(params, self.pause), run.shown_texts(params, self.pause)

    def record_validation(
        self, state: GanState, held_out: HeldOut, task_error: float | None, lines: list[str], value: float | None
    ) -> tuple[float, float | None]:
        """Records these, the loss of each source and the chosen figure; returns loss and task error."""
        step, nll = int(state.step), held_out.per_token()
        assert nll.value is not None
        error = nll.error or 0.0
        figures = {METRIC: nll.value, "valid_standard_error": error}
        of_sources = {name: one.value for name, one in held_out.by_source().items() if one.value is not None}
        figures |= {f"{METRIC}/{name}": value for name, value in of_sources.items()}
        if task_error is not None:
            figures[TASK_METRIC] = task_error
        choice, chosen = self.run.choice, ""
        if choice is not None and value is not None:
            name = choice.name if choice.name in SAMPLE_FIGURES else f"{choice.name}_mean"
            figures |= {} if choice.name in VALIDATION_FIGURES else {name: value}
            chosen = f", {choice.name} {value:.4g}"
        self.watch(step, self.records.write(self.phase, step, figures))
        self.records.samples(self.phase, step, lines)
        each = f" ({', '.join(f'{name} {value:.4f}' for name, value in of_sources.items())})" if of_sources else ""
        answers = "" if task_error is None else f", task error {task_error:.4f}"
        self.bar.message(
            f"{self.phase} step {step}: validation {nll.value:.4f} ± {error:.4f} nats/token{each}{answers}{chosen}; "
            f"sample: {one_line(lines[0])}"
        )
        return nll.value, task_error

    def validation_batches(self, what: str) -> Iterator[Batch]:
        """Batches of the validation text that is scored during training; the run may stop before each."""
        valid = self.run.validated
        total = len(valid)
        size = rows_at_once(self.run.config.evaluation.batch_size, total, valid.max_length * valid.vocabulary.size)
        return paused(evaluation_batches(valid, size), what, size, total, self.pause)

    def pause(self, what: str, done: int, total: int) -> None:
        """Shows the progress of an evaluation; raises CutShort if the run should stop."""
        self.signals.check()
        self.bar.busy(f"{what}: {done:,} of {total:,} texts")

    def stop(self, step: int) -> None:
        with self.signals.uncut():
            self.checkpoints.wait()
        raise Interrupted(
            self.signals.number,
            f"stopped by {self.signals.name} at step {step}; saved in {self.run.folder.path}; "
            "the same command resumes from here",
        )
