"""Longer phases for an existing run: `gptgan train --extend`."""

from gptgan_jax.checkpoints.steps import finished_steps
from gptgan_jax.config import PHASES, Config, Phase
from gptgan_jax.config.structure import difference
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder


class ExtendedFolder(RunFolder):
    """The folder of a run that resumes with longer phases, none of which a later phase has followed yet.

    Training writes the longer configuration there under the run's lock, once everything else has been checked. From the
    step that the run has reached, learning rates follow the longer schedule.
    """

    def check(self, config: Config) -> bool:
        """Whether the folder holds this run, perhaps with shorter phases; anything else raises.

        Args:
            config: the run's own, except for longer phases.

        Raises:
            UserError: no such run, one of another configuration, or a phase that a later phase has followed.
        """
        if not self._exists():
            raise UserError(f"--extend: {self.path} is not a run yet; drop the flag to start it")
        changes = self.changes(config)
        others = [line for line in changes if not line.startswith(tuple(f"{phase}.steps:" for phase in PHASES))]
        if others:
            raise UserError(f"--extend only changes the length of phases, but {self.path} differs in {others[0]}")
        if not changes:
            return True
        before = self.read_config()
        steps = finished_steps(self.checkpoints)
        reached = PHASES.index(steps[-1][1]) if steps else 0
        for phase in PHASES:
            old, new = before.steps(phase), config.steps(phase)
            if PHASES.index(phase) < reached and old != new:
                raise self._begun(phase, PHASES[reached], old, new)
            if PHASES.index(phase) == reached and new < old:
                raise UserError(f"--extend makes phases longer: {phase}.steps was {old:,}, and is {new:,}")
        return True

    def news(self, config: Config) -> list[str]:
        """One line on what is longer; empty if nothing is, or if there is no run."""
        if not self.config_file.is_file():
            return []
        longer = "; ".join(line for line in difference(self.read_config(), config) if ".steps:" in line)
        return [f"extending {self.path}: {longer}; learning rates follow the longer schedule"] if longer else []

    def _begun(self, phase: Phase, reached: Phase, old: int, new: int) -> UserError:
        """The error for a phase that a later phase has followed, with what to do instead."""
        why = f"{self.path}: its {reached} phase has gone on from the {phase} phase, whose length is {old:,} steps"
        if phase == "continued":
            return UserError(f"{why}; keep that baseline with --continued.steps {old}")
        return UserError(
            f"{why}, and {phase}.steps would be {new:,}; begin another run from its generator: --name NAME "
            f"--init_from {self.path} --init_checkpoint {'likelihood' if phase == 'likelihood' else 'best'}"
        )
