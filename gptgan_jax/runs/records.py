"""What a run writes down while it trains: metrics.jsonl, samples.txt, TensorBoard and Weights & Biases.

`metrics.jsonl` is the truth, which the last two mirror. A resumed run first drops what was written after its
checkpoint, so that the files end as those of a run that was never interrupted.
"""

import importlib
import json
import math
import numbers
import os
import re
import time
import unicodedata
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.config import RecordsConfig
from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import whole_file, write_whole

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.txt"
TENSORBOARD_FOLDER = "tensorboard"
WANDB_ID_FILE = "wandb_id"
RESERVED = frozenset({"phase", "step", "alarm"})
HEADER = re.compile(r"== (.+) step (\d+) ==")
TENSORBOARD_FLUSH_SECONDS = 10.0


@dataclass(frozen=True)
class SampleBlock:
    """One block of samples.txt: what the generator wrote at one evaluation, a text a line."""

    phase: str
    step: int
    lines: tuple[str, ...]


def one_line(text: str) -> str:
    r"""Line breaks and control characters become visible escapes (\n, \x1b), which steer no terminal."""
    return "".join(
        char.encode("unicode_escape").decode()
        if char != "\t" and unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        else char
        for char in text
    )


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run folder, oldest first; a line that a kill left half-written is skipped.

    Each has "phase" and "step" and either figures (None where one was not finite) or "alarm".
    """
    return [record for _, record in _metric_lines(Path(folder) / METRICS_FILE)]


def read_samples(folder: str | Path) -> list[SampleBlock]:
    """The blocks of a run folder's samples.txt, oldest first; a half-written one is skipped."""
    path = Path(folder) / SAMPLES_FILE
    if not path.exists():
        return []
    blocks: list[tuple[str, int, list[str]]] = []
    # Not splitlines(), as a text may hold exotic separators; what follows the last "\n" is half a line.
    for line in path.read_bytes().decode("utf-8", errors="replace").split("\n")[:-1]:
        if header := HEADER.fullmatch(line):
            blocks.append((header[1], int(header[2]), []))
        elif blocks:
            blocks[-1][2].append(line)
    # A whole block ends with an empty line.
    return [SampleBlock(phase, step, tuple(lines[:-1])) for phase, step, lines in blocks if "" in lines]


class Records:
    """The open records of a run. Only one process may write: with active=False every call does nothing.

    Call `flush` before a checkpoint is saved: a checkpoint promises that all up to its step is recorded.
    """

    def __init__(self, folder: Path, config: RecordsConfig, resume_step: int | None, active: bool) -> None:
        """Use `Records.open`."""
        self.folder = folder
        self.active = active
        if not active:
            return
        # First, as it may refuse: a user's mistake must leave the records as they were.
        project, resumed = config.wandb_project, resume_step is not None
        self._wandb = _start_wandb(folder, project, resumed) if project else None
        folder.mkdir(parents=True, exist_ok=True)
        keep_until = -1 if resume_step is None else resume_step
        _trim(folder, keep_until)
        self._metrics = (folder / METRICS_FILE).open("ab")
        self._samples = (folder / SAMPLES_FILE).open("ab")
        board = folder / TENSORBOARD_FOLDER
        self._tensorboard = _TensorBoard(board, keep_until + 1) if config.tensorboard else None

    @classmethod
    def open(
        cls, folder: str | Path, config: RecordsConfig, resume_step: int | None = None, active: bool = True
    ) -> "Records":
        """Opens the records of a run folder for writing.

        Args:
            folder: the run folder; made if there is none.
            config: where figures go besides metrics.jsonl.
            resume_step: the step of the checkpoint that the run continues from; all that was recorded of
                later steps is dropped. None for a run that starts at the beginning: *everything* is dropped.
            active: whether this process writes; with False nothing is read, written or imported.

        Raises:
            UserError: Weights & Biases is asked for and isn't installed or isn't logged in.
        """
        return cls(Path(folder), config, resume_step, active)

    def write(self, phase: str, step: int, figures: Mapping[str, float]) -> dict[str, float | None]:
        """Records the figures of one step, all in one line of metrics.jsonl.

        Args:
            phase: the name of the training phase; TensorBoard's tags are "phase/figure".
            step: the global step, which goes on counting from phase to phase.
            figures: real scalars, also 0-d arrays; rounded to 6 significant digits, null if not finite.

        Returns:
            the figures as they are read back: rounded, None where not finite.

        Raises:
            ValueError: a figure is called phase, step or alarm.
        """
        if clash := RESERVED & figures.keys():
            raise ValueError(f"a figure cannot be called {sorted(clash)[0]!r}")
        values = {name: _plain(value) for name, value in figures.items()}
        recorded = {name: _finite(value) for name, value in values.items()}
        if not self.active:
            return recorded
        self._append({"phase": phase, "step": int(step), **recorded})
        tagged = {f"{phase}/{name}": value for name, value in values.items()}
        if self._tensorboard:
            self._tensorboard.write(int(step), tagged)
        if self._wandb:
            self._wandb.log(tagged, step=int(step))
        return recorded

    def alarm(self, phase: str, step: int, text: str) -> None:
        """Records that something looks wrong with the training, as {"phase", "step", "alarm": text}."""
        if self.active:
            self._append({"phase": phase, "step": int(step), "alarm": text})

    def samples(self, phase: str, step: int, lines: Iterable[str]) -> None:
        """Appends texts to samples.txt, one a line, under a header such as "== likelihood step 200 =="."""
        if self.active:
            # A text must neither be empty (that ends a block) nor pass for a header.
            texts = [one_line(line) or "(empty)" for line in lines]
            texts = [" " + text if HEADER.fullmatch(text) else text for text in texts]
            self._samples.write(_block_bytes(SampleBlock(phase, int(step), tuple(texts))))
            self._samples.flush()

    def flush(self) -> None:
        """Returns when all that was recorded is on the disk."""
        if self.active:
            for file in (self._metrics, self._samples):
                file.flush()
                os.fsync(file.fileno())
            if self._tensorboard:
                self._tensorboard.flush()

    def close(self, failed: bool = False) -> None:
        """Flushes and closes everything, once; `failed` is what Weights & Biases shows of the run."""
        if not self.active:
            return
        self.flush()
        self.active = False
        self._metrics.close()
        self._samples.close()
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish(exit_code=int(failed))

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A signal or Ctrl-C ends a run without failing it, and is no Exception.
        self.close(failed=kind is not None and issubclass(kind, Exception))

    def _append(self, record: Mapping[str, Any]) -> None:
        self._metrics.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        # To the operating system at once, so that a killed process loses nothing.
        self._metrics.flush()


class _TensorBoard:
    """An event file. Not tensorboardX's SummaryWriter: its flush leaves events in a queue, lost at a kill."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        from tensorboardX import event_file_writer, proto

        folder.mkdir(parents=True, exist_ok=True)
        self._proto = proto
        # The suffix keeps a run that is resumed within the same second from overwriting its own events.
        self._file = event_file_writer.EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        start = proto.event_pb2.SessionLog(status=proto.event_pb2.SessionLog.START)
        self._file.write_event(proto.event_pb2.Event(step=purge_step, wall_time=time.time(), session_log=start))
        self.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time()
        summary = self._proto.summary_pb2.Summary()
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=value)
        self._file.write_event(self._proto.event_pb2.Event(step=step, wall_time=now, summary=summary))
        if now - self._flushed > TENSORBOARD_FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._file.flush()
        self._flushed = time.time()

    def close(self) -> None:
        self._file.close()


def _plain(value: Any) -> int | float:
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(f"{float(value):.6g}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _metric_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Each readable line of metrics.jsonl, as bytes and as what it says."""
    lines = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            lines.append((line, record))
    return lines


def _block_bytes(block: SampleBlock) -> bytes:
    header = f"== {block.phase} step {block.step} =="
    return "\n".join([header, *block.lines, "", ""]).encode()


def _trim(folder: Path, keep_until: int) -> None:
    metrics = [line + b"\n" for line, m in _metric_lines(folder / METRICS_FILE) if m["step"] <= keep_until]
    # Written anew even if nothing is dropped: a link in their place would be appended to.
    with whole_file(folder / METRICS_FILE) as file:
        file.writelines(metrics)
    blocks = [_block_bytes(block) for block in read_samples(folder) if block.step <= keep_until]
    with whole_file(folder / SAMPLES_FILE) as file:
        file.writelines(blocks)


def check_available(config: RecordsConfig) -> None:
    """Raises UserError where the config asks for Weights & Biases and it isn't installed."""
    if config.wandb_project is not None:
        _import_wandb()


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise UserError("wandb_project needs the package wandb: pip install '.[wandb]'") from None


def _start_wandb(folder: Path, project: str, resumed: bool) -> Any:
    """Starts or continues the folder's Weights & Biases run, in the mode that WANDB_MODE says."""
    wandb = _import_wandb()
    folder.mkdir(parents=True, exist_ok=True)
    id_file = folder / WANDB_ID_FILE
    resumed = resumed and id_file.exists()
    run_id = id_file.read_text() if resumed else uuid.uuid4().hex[:12]
    name, resume = folder.resolve().name, "allow" if resumed else None
    try:
        run = wandb.init(project=project, name=name, id=run_id, dir=str(folder), resume=resume)
    except wandb.Error as error:
        reason = one_line(str(error)).split("\\n")[0]
        raise UserError(f"wandb_project {project!r}: {reason}; 'wandb login', or WANDB_MODE=offline") from error
    write_whole(id_file, run_id.encode())
    return run
