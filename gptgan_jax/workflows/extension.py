"""A run whose phases are made longer after it began: `gptgan train --extend`."""

from collections.abc import Callable

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.config import PHASES, Config, Phase
from gptgan_jax.config.structure import difference
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.lock import locked


def extend(config: Config, say: Callable[[str], None]) -> None:
    """Makes the folder of a run that of a longer one, where no later phase has begun; the rest is ordinary training.

    Learning rates follow the longer schedule from the step on where the run stands. Where nothing is longer, nothing is
    done.

    Args:
        config: the run's own, but for longer phases.
        say: takes one line of news at a time.

    Raises:
        UserError: no such run, one of another configuration, or a phase that others have gone on from.
    """
    folder = RunFolder.of(config)
    if not folder.config_file.is_file():
        raise UserError(f"--extend: {folder.path} is no run yet; drop the flag to begin it")
    before = folder.read_config()
    if not folder.changes(config):
        return
    others = [
        line for line in folder.changes(config) if not line.startswith(tuple(f"{phase}.steps:" for phase in PHASES))
    ]
    if others:
        raise UserError(f"--extend changes the length of phases alone, and {folder.path} differs in {others[0]}")
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        latest = checkpoints.latest()
    reached = PHASES.index(latest.phase) if latest is not None else 0
    for phase in PHASES:
        old, new = before.steps(phase), config.steps(phase)
        if PHASES.index(phase) < reached and old != new:
            raise _begun(folder, phase, PHASES[reached], old, new)
        if PHASES.index(phase) == reached and new < old:
            raise UserError(f"--extend makes phases longer: {phase}.steps was {old:,}, and is {new:,}")
    with locked(folder.path, say, True):
        folder.write_config(config)
    said = "; ".join(line for line in difference(before, config) if ".steps:" in line)
    say(f"{folder.path} is extended: {said}; learning rates follow the longer schedule from here on")


def _begun(folder: RunFolder, phase: Phase, reached: Phase, old: int, new: int) -> UserError:
    """What to do instead where a later phase has begun."""
    why = f"{folder.path}: its {reached} phase has gone on from the {phase} phase, whose length is {old:,} steps"
    if phase == "continued":
        return UserError(f"{why}; keep that baseline with --continued.steps {old}")
    return UserError(
        f"{why}, and {phase}.steps would be {new:,}; begin another run from its generator: --name NAME "
        f"--init_from {folder.path} --init_checkpoint {'likelihood' if phase == 'likelihood' else 'best'}"
    )
