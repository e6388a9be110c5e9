"""The run folder: where each thing a run leaves behind lies, and whose run it is."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from gptgan_jax.config import Config
from gptgan_jax.config_files import difference, load_config, to_yaml
from gptgan_jax.data.tokenizers import AnyTokenizer, load_tokenizer
from gptgan_jax.errors import UserError

TEMPORARY_FILE = "config.yaml.tmp"
HELD_OUT_FILE = "held_out.npz"
START_FILE = "start.npz"
# What may change between the beginning of a run and its resume: nothing of it reaches a parameter.
FREE_KEYS = ("runs_folder:", "records.", "checkpoints.")


@dataclass(frozen=True)
class RunFolder:
    """config.yaml, tokenizer/, held_out.npz, start.npz where it starts from another run, checkpoints/, metrics.jsonl,
    training_time.json, tensorboard/, samples.txt, evaluation.json, report.html, report.md and its pictures."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def of(cls, config: Config) -> "RunFolder":
        return cls(Path(config.runs_folder) / config.name)

    def check(self, config: Config) -> bool:
        """Whether the folder already holds this very run, to be resumed.

        Raises:
            UserError: where it holds another run, naming what differs, or something that is no run.
        """
        if not self._exists():
            return False
        changes = [line for line in difference(self.read_config(), config) if not line.startswith(FREE_KEYS)]
        if changes:
            shown = "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
            raise UserError(f"{self.path} holds a run of another config ({shown}); choose another --name or remove it")
        return True

    def _exists(self) -> bool:
        """Whether there is a run; a folder with text and tokenizer but no config is one whose making was cut short."""
        try:
            there = {entry.name for entry in self.path.iterdir()}
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; choose another --name or --runs_folder") from None
        if self.config_file.name in there:
            return True
        if there - {self.tokenizer.name, HELD_OUT_FILE, START_FILE, TEMPORARY_FILE}:
            raise UserError(f"{self.path} exists and is no run folder; choose another --name")
        return False

    def create(self, config: Config, tokenizer: AnyTokenizer) -> None:
        """Makes the folder. config.yaml comes last, so that a folder with one is complete."""
        tokenizer.save(self.tokenizer)
        self.write_config(config)

    def write_config(self, config: Config) -> None:
        """Writes config.yaml, all or nothing."""
        temporary = self.path / TEMPORARY_FILE
        temporary.write_text(to_yaml(config), encoding="utf-8")
        temporary.replace(self.config_file)

    def read_config(self) -> Config:
        """The run's configuration. The folder may be somebody else's: no code that it names is run.

        Raises:
            UserError: where the folder is no run folder.
        """
        if not os.path.isfile(self.config_file):  # unlike Path.is_file, not of a name that is too long
            raise UserError(f"{self.path} is no run folder: it has no config.yaml; give one that `gptgan train` made")
        return load_config(self.config_file, run_code=False)

    def read_tokenizer(self) -> AnyTokenizer:
        """The run's tokenizer."""
        return load_tokenizer(self.tokenizer)


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Checks that a folder, which need not exist yet, can be made and has room.

    Args:
        folder: the run folder.
        needed_bytes: what its files may come to; those that it holds already count as room.

    Raises:
        UserError: where it can't be made or the disk has less room than that.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(
            f"{folder} can't be made: {existing} is no folder that can be written; choose another runs_folder"
        )
    taken = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(existing).free + taken
    if free < needed_bytes:
        raise UserError(
            f"{folder}: the checkpoints need up to {needed_bytes / 1e6:,.0f} MB, "
            f"the disk has {free / 1e6:,.0f} MB free; make room, choose another runs_folder, or lower checkpoints.keep"
        )
