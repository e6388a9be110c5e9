"""A run: its phases in order, from batches to records and checkpoints; it resumes from wherever it stopped.

The data position is the step within the phase, and every key is a function of the state's step, so a resume needs only
the latest checkpoint. The metrics of a step are read after the next one is dispatched.
"""

from collections.abc import Callable
from contextlib import ExitStack

import jax
from etils import epath

from gptgan_jax.checkpoints.manager import Checkpoints, restore_latest_readable
from gptgan_jax.config import PHASES, Phase
from gptgan_jax.distributed.hosts import check_alike, in_all, wait_for_all
from gptgan_jax.runs.experiment import Experiment, check_labels
from gptgan_jax.runs.fingerprint import check_same_teacher, fingerprint, keep_start, keep_teacher
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import check_same_text, held_out_of, save_held_out
from gptgan_jax.runs.lock import locked
from gptgan_jax.runs.records import Records
from gptgan_jax.runs.start import save_start
from gptgan_jax.schema.structure import as_plain, flat
from gptgan_jax.system.atomic_files import remove_partial_files
from gptgan_jax.system.native_log import native_log_in
from gptgan_jax.training.full_disk import last_good, telling_of_full_disk
from gptgan_jax.training.phase_run import PhaseRun
from gptgan_jax.training.phases import owes_evaluation
from gptgan_jax.training.profiling import Profiler
from gptgan_jax.training.run import Run
from gptgan_jax.training.signals import Interrupted, StopSignals
from gptgan_jax.types import Params


def train(experiment: Experiment, folder: RunFolder, say: Callable[[str], None] = print) -> None:
    """Runs every phase that is not finished.

    Args:
        experiment: what to train.
        folder: the run folder, created if it does not exist.
        say: receives one line of output at a time.

    Raises:
        UserError: before anything is written, in each process: the folder holds another run or is in use by a live
            one, the disk is too small, a batch can't be split over the devices, or the processes differ in text,
            configuration, code or packages.
        NotFinite: more than `max_skips` steps in a row, or a validation, gave NaN or infinity.
        NotWritten: the disk is full.
        UserError: later, if a reward function fails; the last checkpoint stays.
        Interrupted: SIGINT or SIGTERM came; the run is saved.
    """
    checkpoints = folder.checkpoints_of(experiment.config)
    # From the very beginning: with several processes JAX only notes a SIGTERM, and nothing else would act on it.
    with StopSignals(jax.process_count(), lambda: _last_words(checkpoints)) as signals:
        _train(experiment, folder, say, signals)
        if signals.number:  # after the last step, or if no steps were left
            raise Interrupted(
                signals.number,
                f"stopped by {signals.name}; all steps are saved in {folder.path}; the same command resumes from here",
            )


def _train(experiment: Experiment, folder: RunFolder, say: Callable[[str], None], signals: StopSignals) -> None:
    if jax.process_count() > 1:
        check_alike(fingerprint(experiment, folder))
    there = folder.check_in_all(experiment.config)

    def begun() -> tuple[Run, Params | None]:
        run = Run(experiment, folder, say)
        if there and run.is_main:
            check_same_text(folder.path, experiment)
            check_same_teacher(folder.path, experiment.config)
        run.check_resources()
        # An existing run already has its start, which its checkpoints name.
        return run, None if there else run.read_start()

    run, start = in_all(begun)  # before any process creates the folder
    folder_of_checkpoints = folder.checkpoints_of(experiment.config)
    with telling_of_full_disk(folder.path, folder_of_checkpoints), ExitStack() as stack:
        stack.callback(run.text_rewards.close)
        in_all(lambda: stack.enter_context(locked(folder.path, say, run.is_main)))
        if start is not None:
            save_start(folder_of_checkpoints, start)
            del start
        if run.is_main:
            _prepare(experiment, folder)
        wait_for_all("made")
        native_log_in(folder.path, jax.process_index())
        base = run.base if run.adapts else None
        if base is not None:
            base.seal()
        with Checkpoints(folder_of_checkpoints, experiment.config.checkpoints.keep, base=base) as checkpoints:
            _execute(run, checkpoints, signals)


def _last_words(checkpoints: epath.PathLike) -> str:
    """From where a run that is ended by force resumes."""
    return f"; {last_good(checkpoints)}, and the same command resumes from there"


def _prepare(experiment: Experiment, folder: RunFolder) -> None:
    """Creates the run folder, or updates an existing one of the same run."""
    remove_partial_files(folder.path)
    keep_teacher(folder.path, experiment.config)  # in an existing run, the same as before
    if folder.check(experiment.config):
        folder.write_config(experiment.config)
        return
    keep_start(folder.path, experiment.config)
    save_held_out(folder.path, held_out_of(experiment))
    folder.create(experiment.config, experiment.tokenizer, experiment.corpus.classes)


def check(experiment: Experiment, folder: RunFolder) -> None:
    """Raises what `train` would raise before writing; also checks text that was loaded for another configuration."""
    folder.check(experiment.config)
    text = experiment.train, experiment.valid, experiment.corpus.classes, experiment.tokenizer
    check_labels(experiment.config, *text)
    Run(experiment, folder, lambda line: None).check_resources()


def _execute(run: Run, checkpoints: Checkpoints, signals: StopSignals) -> None:
    """Runs every phase that is not finished, from the latest checkpoint on."""
    restored = restore_latest_readable(checkpoints, run.target, run.say)
    if restored is None:
        phase: Phase = "likelihood"
        for line in run.summary():
            run.say(line)
        run.say("compiling the initialisation")
        state = run.first_state()
    else:
        phase, state = restored[0], run.sharing(*restored)
        if int(state.step) >= run.last_step(PHASES[-1]):
            run.say(f"{run.folder.path}: all {int(state.step)} steps are already done")
        else:
            run.say(f"resuming {run.folder.path} in phase {phase} at step {int(state.step)}")
        for line in run.summary():
            run.say(line)
    resumed_at = None if restored is None else int(state.step)
    keys, saved = dict(flat(as_plain(run.config))), checkpoints.latest()
    owes = restored is not None and saved is not None and owes_evaluation(run.config, saved)
    with (
        Records.open(run.folder.path, run.config.records, resumed_at, run.is_main, keys, owes) as records,
        Profiler(run.folder.path, run.config.records.profile, run.is_main) as profiler,
    ):
        if owes and saved is not None:
            PhaseRun(run, phase, records, checkpoints, signals, profiler).catch_up(state, saved)
        for current in PHASES[PHASES.index(phase) :]:
            first, last = run.first_step(current), run.last_step(current)
            if first == last or int(state.step) >= last:
                continue
            if current != phase or restored is None:
                state = run.begin(current, state, checkpoints)
            state = PhaseRun(run, current, records, checkpoints, signals, profiler).execute(state)
            phase = current
    checkpoints.wait()
