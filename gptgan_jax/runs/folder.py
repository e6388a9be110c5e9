"""The run folder: where each thing a run leaves behind lies, and whose run it is."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from gptgan_jax.config import Config
from gptgan_jax.config_files import difference, load_config, to_yaml
from gptgan_jax.data.tokenizers import AnyTokenizer, load_tokenizer
from gptgan_jax.errors import UserError


@dataclass(frozen=True)
class RunFolder:
    """RUN/: config.yaml, tokenizer/, checkpoints/, metrics.jsonl, tensorboard/, samples.txt, report.md."""

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
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        if not self.config_file.is_file():
            raise UserError(f"{self.path} exists and is no run folder; choose another --name")
        changes = [line for line in difference(self.read_config(), config) if not line.startswith("runs_folder:")]
        if changes:
            shown = "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
            raise UserError(f"{self.path} holds a run of another config ({shown}); choose another --name or remove it")
        return True

    def create(self, config: Config, tokenizer: AnyTokenizer) -> None:
        """Makes the folder. config.yaml comes last, so that a folder with one is complete."""
        tokenizer.save(self.tokenizer)
        temporary = self.config_file.with_suffix(".yaml.tmp")
        temporary.write_text(to_yaml(config), encoding="utf-8")
        temporary.replace(self.config_file)

    def read_config(self) -> Config:
        """The run's configuration.

        Raises:
            UserError: where the folder is no run folder.
        """
        if not self.config_file.is_file():
            raise UserError(f"{self.path} is no run folder: it has no config.yaml; give one that `gptgan train` made")
        return load_config(self.config_file)

    def read_tokenizer(self) -> AnyTokenizer:
        """The run's tokenizer."""
        return load_tokenizer(self.tokenizer)


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Raises UserError where the disk under a folder (which need not exist yet) has less room than needed."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise UserError(
            f"{folder}: the checkpoints need up to {needed_bytes / 1e6:,.0f} MB, "
            f"the disk has {free / 1e6:,.0f} MB free; make room, choose another runs_folder, or lower checkpoints.keep"
        )
