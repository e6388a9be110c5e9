"""A run on Weights & Biases, whose mode (online, offline, disabled) is that of WANDB_MODE."""

import importlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import write_whole

ID_FILE = "wandb_id"


class WandbRun:
    """The open run that belongs to a run folder."""

    def __init__(self, folder: Path, project: str, resumed: bool, keys: Mapping[str, Any]) -> None:
        """Starts it, or continues the one that the folder names.

        Raises:
            UserError: wandb is not installed or not logged in.
        """
        self._wandb = import_wandb()
        folder.mkdir(parents=True, exist_ok=True)
        id_file = folder / ID_FILE
        resumed = resumed and id_file.exists()
        run_id = id_file.read_text() if resumed else uuid.uuid4().hex[:12]
        name, resume = folder.resolve().name, "allow" if resumed else None
        try:
            self._run = self._wandb.init(
                project=project, name=name, id=run_id, dir=str(folder), resume=resume, config=dict(keys)
            )
        except self._wandb.Error as error:
            reason = " ".join(str(error).split("\n")[0].split())
            raise UserError(f"wandb_project {project!r}: {reason}; 'wandb login', or WANDB_MODE=offline") from error
        write_whole(id_file, run_id.encode())

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars by their tags."""
        self._run.log(dict(values), step=step)

    def texts(self, step: int, tag: str, lines: Sequence[str]) -> None:
        """Sample texts as a table."""
        table = self._wandb.Table(columns=["step", "text"], data=[[step, line] for line in lines])
        self._run.log({tag: table}, step=step)

    def scores(self, scores: Mapping[str, float]) -> None:
        """Final scores, which stand beside the config in the project's table of runs."""
        self._run.summary.update(dict(scores))

    def flush(self) -> None:
        """Nothing to do: its own process writes."""

    def close(self, failed: bool = False) -> None:
        """Ends the run; `failed` is what the project shows of it."""
        self._run.finish(exit_code=int(failed))


def write_scores(folder: Path, project: str, scores: Mapping[str, float]) -> None:
    """Adds final scores to the run that a folder names; nothing where it names none.

    Raises:
        UserError: as `WandbRun` does.
    """
    if (folder / ID_FILE).exists():
        run = WandbRun(folder, project, resumed=True, keys={})
        run.scores(scores)
        run.close()


def import_wandb() -> Any:
    """The package. Raises UserError where it is not installed."""
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise UserError("wandb_project needs the package wandb: pip install '.[wandb]'") from None
