"""The run: phases in their order, batches in, records and checkpoints out; resumed from wherever it was left.

The data position is the step within the phase and every key is a function of the state's step, so the latest
checkpoint is all that a resume needs. Metrics of a step are read after the next one was dispatched.
"""

import math
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import jax
import numpy as np

from gptgan_jax.config import PHASES, Phase
from gptgan_jax.data.batches import batch_at, evaluation_batches, prefetch
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.likelihood import likelihood_of
from gptgan_jax.evaluation.texts import Drawing, TextWriter
from gptgan_jax.hosts import is_main, wait_for_all
from gptgan_jax.models.discriminators import TransformerDiscriminatorConfig, share_trunk
from gptgan_jax.models.generators import parameter_summary
from gptgan_jax.optimizers import parameter_paths, unmatched
from gptgan_jax.runs.checkpoints import METRIC, Checkpoints, restore_latest_readable, state_bytes
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.runs.folder import RunFolder, check_disk
from gptgan_jax.runs.full_disk import telling_of_full_disk
from gptgan_jax.runs.held_out import check_same_text, held_out_of, save_held_out
from gptgan_jax.runs.lock import locked
from gptgan_jax.runs.records import Records, check_available, read_metrics
from gptgan_jax.runs.start import read_start, save_start
from gptgan_jax.runs.timing import Stopwatch
from gptgan_jax.training.alarms import active_alarms
from gptgan_jax.training.gan import Gan, Metrics
from gptgan_jax.training.phases import build_gan
from gptgan_jax.training.profiling import Profiler
from gptgan_jax.training.progress import Progress
from gptgan_jax.training.sharding import Placement
from gptgan_jax.training.signals import StopSignals
from gptgan_jax.training.skipping import SKIPPED, skipping
from gptgan_jax.types import Batch, GanState, Params, Player

BAR_FIGURES = {
    "loss": "loss",
    "discriminator_loss": "D loss",
    "discriminator_accuracy": "D accuracy",
    "reward": "reward",
    "entropy": "entropy",
    "kl": "KL",
}


class NotFinite(RuntimeError):
    """Numbers were NaN or infinite too often; the message names the step, the phase and the last good checkpoint."""


class Interrupted(BaseException):
    """A signal asked the run to stop; everything is saved. `signal` is its number."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


def train(experiment: Experiment, folder: RunFolder, say: Callable[[str], None] = print) -> None:
    """Runs every phase that is not done yet.

    Args:
        experiment: what to train.
        folder: where; made if it does not exist.
        say: takes one line of news at a time.

    Raises:
        UserError: before anything is written, where the folder holds another run or is in use by a live one, the disk
            is too small or a batch can't be split over the devices.
        NotFinite: more than `max_skips` steps in a row, or validation, came to NaN or infinity.
        NotWritten: the disk is full.
        Interrupted: SIGINT or SIGTERM came; the run is saved.
    """
    run = _Run(experiment, folder, say)
    folder.check(experiment.config)
    run.check_resources()
    wait_for_all("checked")  # before one of them makes the folder
    with telling_of_full_disk(folder), locked(folder.path, say, run.is_main):
        if run.is_main:
            _prepare(experiment, folder)
        wait_for_all("made")
        keep = experiment.config.checkpoints.keep
        checkpoints = Checkpoints(folder.checkpoints_of(experiment.config), keep)
        with StopSignals(jax.process_count()) as signals, checkpoints:
            run.execute(checkpoints, signals)


def _prepare(experiment: Experiment, folder: RunFolder) -> None:
    """Makes the run folder, or brings that of the same run up to date."""
    if folder.check(experiment.config):
        check_same_text(folder.path, experiment)
        folder.write_config(experiment.config)
        return
    save_held_out(folder.path, held_out_of(experiment))
    if experiment.start is not None:
        save_start(folder.path, experiment.start)
    folder.create(experiment.config, experiment.tokenizer)


def check(experiment: Experiment, folder: RunFolder) -> None:
    """Raises what `train` would before it writes anything."""
    folder.check(experiment.config)
    _Run(experiment, folder, lambda line: None).check_resources()


class _Run:
    """The constants of a run, so that its phases need not pass them around."""

    def __init__(self, experiment: Experiment, folder: RunFolder, say: Callable[[str], None]) -> None:
        self.experiment = experiment
        self.config = experiment.config
        self.folder = folder
        self.say = say
        self.placement = Placement.of(self.config.mesh)
        self.is_main = is_main()
        players, axis_name = (experiment.generator, experiment.discriminator), self.placement.axis_name
        self.gans: dict[Phase, Gan] = {
            phase: skipping(build_gan(self.config, phase, *players, axis_name)) for phase in PHASES
        }
        self.example = jax.tree.map(np.asarray, experiment.example_batch())
        evaluation = self.config.evaluation
        self.held_out = likelihood_of(experiment.generator)
        self.drawing = Drawing(evaluation.temperature, evaluation.top_k, evaluation.top_p)
        self.writer = TextWriter(
            experiment.generator, experiment.tokenizer, self.config.data.max_length, evaluation.shown
        )
        self.prompts = experiment.valid.first_prompts(evaluation.shown)

    # ---- the phases' places on the axis of global steps

    def first_step(self, phase: Phase) -> int:
        """Global steps made before the phase."""
        return sum(self.config.steps(earlier) for earlier in PHASES[: PHASES.index(phase)])

    def last_step(self, phase: Phase) -> int:
        return self.first_step(phase) + self.config.steps(phase)

    # ---- states

    def new_state(self, key: jax.Array) -> GanState:
        return self.gans["likelihood"].init(key, self.example)

    def first_state(self) -> GanState:
        """What the run begins with: new parameters, the generator's those of the run that it starts from if any."""
        state = self.placement.born(self.new_state, jax.random.key(self.config.seed))
        if self.config.start_from is None:
            return state
        start = self.experiment.start
        if start is None:
            start = read_start(self.folder.path)
        # Copied, as a step is given its state's arrays to write over.
        params = jax.device_put(jax.tree.map(np.array, start), self.placement.shardings(start))
        state = state.replace(generator=Player(params, None))
        return self.placement.born(self.gans["likelihood"].begin, state, self.example)

    def target(self, phase: Phase) -> GanState:
        """The phase's state as shape structs with shardings."""
        begun = self.gans[phase].begin
        shapes = jax.eval_shape(lambda key: begun(self.new_state(key), self.example), jax.random.key(0))
        return self.placement.target(shapes)

    def begin(self, phase: Phase, state: GanState, checkpoints: Checkpoints) -> GanState:
        """The state that a phase starts from: new optimisers; until the warm-up, the best generator by likelihood."""
        if phase != "likelihood" and int(state.step) <= self.last_step("continued"):
            params = self.likelihood_generator(state, checkpoints)
            state = state.replace(generator=state.generator.replace(params=params))
            judge = self.config.discriminator
            if isinstance(judge, TransformerDiscriminatorConfig) and judge.from_generator:
                params = share_trunk(state.generator.params, state.discriminator.params)
                state = state.replace(discriminator=state.discriminator.replace(params=params))
        return self.placement.born(self.gans[phase].begin, state, self.example)

    def likelihood_generator(self, state: GanState, checkpoints: Checkpoints) -> Params:
        """The likelihood phase's generator that is best by validation and can be read; without that phase, the first.

        Raises:
            UserError: where no checkpoint of the phase can be read and the state has gone on from its generator.
        """
        if not self.config.likelihood.steps:
            return self.first_state().generator.params
        checkpoints.wait()
        for saved in checkpoints.ranked("likelihood"):
            if saved.step == int(state.step):
                return state.generator.params
            try:
                params = checkpoints.restore(saved, self.target("likelihood")).generator.params
            except Exception as error:
                self.say(f"warning: the likelihood checkpoint of step {saved.step} can't be read ({error}); passing on")
                continue
            self.say(f"taking the generator of the best likelihood checkpoint, step {saved.step}")
            return params
        if int(state.step) == self.last_step("likelihood"):
            return state.generator.params
        raise UserError(f"{checkpoints.folder}: no likelihood checkpoint can be read; start anew under another --name")

    def shown_texts(self, params: Params) -> list[str]:
        """The lines of samples.txt: the same prompts and keys whenever it is asked."""
        count = self.config.evaluation.shown
        written = self.writer(params, self.config.seed, count, self.drawing, self.prompts)
        if self.prompts is None:
            return written.texts
        decoded = [self.experiment.tokenizer.decode(self.prompts[i % len(self.prompts)]) for i in range(count)]
        return [f"{prompt} -> {text}" for prompt, text in zip(decoded, written.texts, strict=True)]

    # ---- the run

    def check_resources(self) -> None:
        for phase in PHASES:
            if self.config.steps(phase):
                section = "adversarial" if phase == "continued" else phase
                self.placement.check_batch_size(f"{section}.batch_size", self.config.batch_size(phase))
        check_available(self.config.records)
        self.check_frozen()
        largest = max(state_bytes(self.target(phase)) for phase in PHASES)
        # Of each phase the latest few, the best and one being written.
        needed = largest * (self.config.checkpoints.keep + 2) * len(PHASES)
        where = self.folder.checkpoints_of(self.config)
        if isinstance(where, Path):
            check_disk(where, needed)
        if self.config.checkpoints.folder is not None:
            check_disk(self.folder.path, 0)

    def check_frozen(self) -> None:
        """Every pattern of parameters that stay as they are must name one."""
        config, state = self.config, self.target("likelihood")
        generator, discriminator = state.generator.params, state.discriminator.params
        for key, optimizer, params in (
            ("likelihood.optimizer", config.likelihood.optimizer, generator),
            ("warmup.optimizer", config.warmup.optimizer, discriminator),
            ("adversarial.generator_optimizer", config.adversarial.generator_optimizer, generator),
            ("adversarial.discriminator_optimizer", config.adversarial.discriminator_optimizer, discriminator),
        ):
            for pattern in unmatched(optimizer.frozen, params):
                paths = parameter_paths(params)
                raise UserError(
                    f"{key}.frozen {pattern!r} matches none of the {len(paths)} parameters, which are called such as "
                    f"{paths[0]} or {paths[-1]}"
                )

    def execute(self, checkpoints: Checkpoints, signals: StopSignals) -> None:
        restored = restore_latest_readable(checkpoints, self.target, self.say)
        if restored is None:
            phase: Phase = "likelihood"
            state = self.first_state()
        else:
            phase, state = restored
            if int(state.step) >= self.last_step(PHASES[-1]):
                self.say(f"{self.folder.path}: all {int(state.step)} steps are done already")
            else:
                self.say(f"resuming {self.folder.path} in phase {phase} at step {int(state.step)}")
        self.summarise(state)
        resumed_at = None if restored is None else int(state.step)
        with (
            Records.open(self.folder.path, self.config.records, resumed_at, self.is_main) as records,
            Profiler(self.folder.path, self.config.records.profile, self.is_main) as profiler,
        ):
            for current in PHASES[PHASES.index(phase) :]:
                first, last = self.first_step(current), self.last_step(current)
                if first == last or int(state.step) >= last:
                    continue
                if current != phase or restored is None:
                    state = self.begin(current, state, checkpoints)
                state = _PhaseRun(self, current, records, checkpoints, signals, profiler).execute(state)
                phase = current
        checkpoints.wait()

    def summarise(self, state: GanState) -> None:
        experiment = self.experiment
        for role, network, params in (
            ("generator", self.config.generator, state.generator.params),
            ("discriminator", self.config.discriminator, state.discriminator.params),
        ):
            self.say(f"{role}: {network.kind}, {parameter_summary(params)}")
        self.say(
            f"text: {len(experiment.train):,} for training, {len(experiment.valid):,} for validation, "
            f"vocabulary {experiment.generator.vocabulary.size:,}; {self.placement}"
        )


class _PhaseRun:
    """One phase of a run."""

    def __init__(
        self,
        run: _Run,
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
        step_of = {
            "likelihood": run.gans[phase].likelihood_step,
            "continued": run.gans[phase].likelihood_step,
            "warmup": run.gans[phase].discriminator_step,
            "adversarial": run.gans[phase].adversarial_step,
        }
        self.step = run.placement.compiled(step_of[phase], run.target(phase))
        earlier = read_metrics(run.folder.path) if phase == "adversarial" else []
        self.lines = [
            line
            for line in earlier
            if line["phase"] == phase and "discriminator_accuracy" in line and SKIPPED not in line
        ]
        self.alarms = set(active_alarms(self.lines))

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
                            self.keep(state, self.evaluate(state) if due and self.phase != "warmup" else None)
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

        def make(position: int) -> Batch:
            return batch_at(run.experiment.train, seed, position, self.rows, *share)

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

    def watch(self, step: int, values: Mapping[str, float | None]) -> None:
        """Raises an alarm when it begins to hold, judged by the figures as they were recorded."""
        if self.phase != "adversarial":
            return
        self.lines.append({"step": step, **values})
        active = active_alarms(self.lines)
        for name in [name for name in active if name not in self.alarms]:
            self.records.alarm(self.phase, step, active[name])
            self.bar.message(f"ALARM at step {step}: {active[name]}")
        self.alarms = set(active)

    def keep(self, state: GanState, valid_nats: float | None) -> None:
        """Saves a checkpoint, once the records that a resume would trim to it are on the disk."""
        self.records.flush()
        self.checkpoints.save(self.phase, state, valid_nats)

    def evaluate(self, state: GanState) -> float:
        """Validation loss and sample texts into the records; the loss, in nats a token."""
        run, step = self.run, int(state.step)
        evaluation = run.config.evaluation
        batches = evaluation_batches(run.experiment.valid, evaluation.batch_size, evaluation.max_texts)
        nll = run.held_out(state.generator.averaged, batches).per_token()
        if nll.value is None or not math.isfinite(nll.value):
            raise self.not_finite(step, METRIC)
        error = nll.error or 0.0
        self.records.write(self.phase, step, {METRIC: nll.value, "valid_standard_error": error})
        lines = run.shown_texts(state.generator.averaged)
        self.records.samples(self.phase, step, lines)
        self.bar.message(
            f"{self.phase} step {step}: validation {nll.value:.4f} ± {error:.4f} nats/token; writes: {lines[0]}"
        )
        return nll.value

    def stop(self, step: int) -> None:
        self.checkpoints.wait()
        raise Interrupted(
            self.signals.number,
            f"stopped by {self.signals.name} at step {step}; saved in {self.run.folder.path}; "
            "the same command goes on from here",
        )
