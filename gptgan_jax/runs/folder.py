"""The run folder: where everything that a run saves is, and whether it belongs to the same run."""

import contextlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
from etils import epath

from gptgan_jax.checkpoints.atomic_save import START
from gptgan_jax.config import PHASES, Config
from gptgan_jax.config.checking import takes_tokenizer
from gptgan_jax.config.files import load_config, to_yaml
from gptgan_jax.config.structure import difference
from gptgan_jax.data.tokenizers import AnyTokenizer, load_tokenizer
from gptgan_jax.distributed.hosts import told_by_first
from gptgan_jax.errors import UserError
from gptgan_jax.schema.yaml_files import read_yaml
from gptgan_jax.system.atomic_files import write_whole

HELD_OUT_FILE = "held_out.npz"
CLASSES_FILE = "classes.json"
TEACHER_FILE = "teacher.txt"
START_FILE = "start.txt"
LOCK_FILE = "lock"
OWN_FOLDERS = ("tokenizer", "checkpoints", "tensorboard", "profile", "wandb", "export")
# Keys that may change between the beginning of a run and its resume: none of them affects the parameters, except that
# other devices round differently.
FREE_KEYS = ("runs_folder:", "max_skips:", "records.", "checkpoints.keep:", "evaluation.choose_timeout:", "mesh.")


@dataclass(frozen=True)
class RunFolder:
    """A run folder: config.yaml, tokenizer/, held_out.npz, classes.json (if the text has labels), teacher.txt (in
    distillation, the teacher's digest), start.txt (if the run starts from another run or model, the digest of that),
    checkpoints/ (with start/ if the run starts from another run or model), metrics.jsonl, training_time.json,
    tensorboard/, samples.txt, evaluation.json, report.html, report.md and its pictures, and lock."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path | epath.Path:
        """The folder of its checkpoints, by its config.yaml; an epath if that is remote."""
        return self.checkpoints_of(self.read_config()) if self.config_file.is_file() else self.path / "checkpoints"

    def checkpoints_of(self, config: Config) -> Path | epath.Path:
        """The folder of the checkpoints of a run with this configuration."""
        folder = config.checkpoints.folder
        if folder is None:
            return self.path / "checkpoints"
        return epath.Path(folder) / config.name if "://" in folder else Path(folder) / config.name

    @classmethod
    def of(cls, config: Config) -> "RunFolder":
        return cls(Path(config.runs_folder) / config.name)

    def check(self, config: Config) -> bool:
        """Whether the folder already holds this same run, which can be resumed.

        Raises:
            UserError: it holds another run (the message names what differs) or something that is no run, or a folder
                in it is a symbolic link, through which the run would write elsewhere.
        """
        if not self._exists():
            self._check_checkpoints(config)
            return False
        changes = self.changes(config)
        if changes:
            shown = "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
            lengths = all(re.match(rf"({'|'.join(PHASES)})\.steps: ", line) for line in changes)
            longer = "go on with longer phases by --extend, or " if lengths else ""
            raise UserError(
                f"{self.path} holds a run of another config ({shown}); {longer}choose another --name or remove it"
            )
        return True

    def check_in_all(self, config: Config) -> bool:
        """The result of `check` in the first process; must be called in every process.

        Only the checkpoints must be visible to all of them: a host may have a separate run folder, without the run.
        """
        return bool(told_by_first(lambda: "there" if self.check(config) else ""))

    def changes(self, config: Config) -> list[str]:
        """The changes that would make a configuration another run than the one here, each as `key: there -> here`."""
        # Whether that key changes the text is checked when the text is read (`held_out.check_same_text`).
        free = [*FREE_KEYS, "data.long_documents: cut -> None"]
        if takes_tokenizer(config):  # config.yaml has no section that says nothing
            free.append("tokenizer.")
        return [line for line in difference(self.read_config(), config) if not line.startswith(tuple(free))]

    def _check_checkpoints(self, config: Config) -> None:
        """A new run must not find checkpoints of another run outside of the run folder."""
        if config.checkpoints.folder is None:
            return
        folder = self.checkpoints_of(config)
        try:
            occupied = _occupied(folder)
        except Exception as error:  # whatever the libraries for buckets raise
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"checkpoints.folder {config.checkpoints.folder} can't be reached ({reason}); "
                "a bucket needs its package, such as gcsfs, and credentials"
            ) from None
        if occupied:
            raise UserError(
                f"{folder} holds the checkpoints of another run (or of this one: bring {self.path} back); "
                "choose another --name or --checkpoints.folder"
            )

    def _exists(self) -> bool:
        """Whether there is a run; one with text and tokenizer but no config was interrupted during its creation."""
        try:
            # Names ending in .tmp are of files that a kill left half-written.
            there = {entry.name for entry in self.path.iterdir() if not entry.name.endswith(".tmp")}
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; choose another --name or --runs_folder") from None
        # Left by another process of this run, when the first one was on another host.
        there = {name for name in there if not re.fullmatch(r"native-\d+\.log", name)}
        self._check_links()
        if self.config_file.name in there:
            return True
        half_made = {self.tokenizer.name, CLASSES_FILE, HELD_OUT_FILE, TEACHER_FILE, START_FILE, LOCK_FILE}
        if not _occupied(self.path / "checkpoints"):
            half_made.add("checkpoints")
        if there - half_made:
            raise UserError(f"{self.path} exists and is no run folder; choose another --name")
        return False

    def _check_links(self) -> None:
        """Refuses links. Files are replaced, so a link is never written through, but a linked folder would be."""
        for parent, folders, files in os.walk(self.path):
            dangling = [name for name in files if Path(parent) == self.path and name in OWN_FOLDERS]
            for path in (Path(parent) / name for name in (*folders, *dangling)):
                if path.is_symlink():
                    raise UserError(
                        f"{path} is a symbolic link, and a run writes into its own folder only: put what it leads to "
                        "in its place, or remove it (to keep checkpoints elsewhere, set checkpoints.folder)"
                    )

    def create(self, config: Config, tokenizer: AnyTokenizer, classes: tuple[str, ...] = ()) -> None:
        """Creates the folder. config.yaml is written last, so that a folder with one is complete."""
        tokenizer.save(self.tokenizer)
        if classes:
            write_whole(self.path / CLASSES_FILE, json.dumps(classes, ensure_ascii=False).encode())
        self.write_config(config)

    def write_config(self, config: Config) -> None:
        """Writes config.yaml, all or nothing."""
        write_whole(self.config_file, to_yaml(config).encode())

    def read_config(self) -> Config:
        """The run's configuration. The folder may come from someone else: no code that it names is run.

        Raises:
            UserError: the folder is not a run folder.
        """
        if not os.path.isfile(self.config_file):  # unlike Path.is_file, not of a name that is too long
            raise UserError(f"{self.path} is no run folder: it has no config.yaml; give one that `gptgan train` made")
        # Versions before 0.2 cut long documents, and had no key for it.
        earlier = "long_documents" not in (read_yaml(self.config_file).get("data") or {})
        return load_config(self.config_file, ["--data.long_documents", "cut"] if earlier else [], run_code=False)

    def read_classes(self) -> tuple[str, ...]:
        """The names of the run's labels; empty if its text has none.

        Raises:
            UserError: they can't be read.
        """
        path = self.path / CLASSES_FILE
        try:
            names = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path} is damaged ({reason}): the names of this run's labels") from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path} is damaged: it should be a list of the names of this run's labels")
        return tuple(names)

    def read_tokenizer(self) -> AnyTokenizer:
        """The run's tokenizer."""
        return load_tokenizer(self.tokenizer)

    def tokenizer_in_all(self) -> AnyTokenizer:
        """The run's tokenizer, read by the first process and sent to the others; must be called in every process."""
        if jax.process_count() == 1:
            return self.read_tokenizer()

        def files() -> str:
            self.read_tokenizer()  # refuses a damaged one here
            contents = {path.name: path.read_bytes() for path in self.tokenizer.iterdir() if path.is_file()}
            return json.dumps({name: content.decode("latin-1") for name, content in contents.items()})

        with tempfile.TemporaryDirectory() as folder:
            for name, text in json.loads(told_by_first(files)).items():
                write_whole(Path(folder) / name, text.encode("latin-1"))
            return load_tokenizer(Path(folder))


def slug_of(name: str, where: str) -> str:
    """A name as the name of a folder; raises UserError if nothing is left of it."""
    slug = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")
    if not slug:
        raise UserError(f"{where}: its name should hold a letter or a digit, as its folders are called after it")
    return slug


def _occupied(checkpoints: Path | epath.Path) -> bool:
    """Whether a folder holds more than a run leaves there that was interrupted at its beginning."""
    return checkpoints.is_dir() and any(not entry.name.startswith(START) for entry in checkpoints.iterdir())


def check_disk(folder: Path, needed_bytes: int, next_bytes: int = 0) -> None:
    """Checks that a folder, which need not exist yet, can be created and has enough room.

    Args:
        folder: the run folder.
        needed_bytes: total size of its files when the run ends, including those that it already holds.
        next_bytes: size of one checkpoint. It must be free now, as a new one is complete before an old one is deleted.

    Raises:
        UserError: the folder can't be created, or the disk has less room.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(
            f"{folder} can't be made: {existing} is no folder that can be written; choose another runs_folder"
        )
    free, taken = shutil.disk_usage(existing).free, _taken(folder)
    if free < max(needed_bytes - taken, next_bytes):
        room = f"{taken / 1e6:,.0f} MB are there and {free / 1e6:,.0f} MB" if taken else f"{free / 1e6:,.0f} MB"
        raise UserError(
            f"{folder}: the checkpoints need up to {needed_bytes / 1e6:,.0f} MB, {room} are free on the disk; "
            "free some space, choose another runs_folder, or lower checkpoints.keep"
        )


def _taken(folder: Path) -> int:
    """Bytes of the files in a folder; one that disappears meanwhile, as in a live run, counts as 0."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
