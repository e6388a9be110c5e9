"""The records of a run during training: metrics.jsonl, samples.txt, TensorBoard and Weights & Biases.

`metrics.jsonl` is authoritative; the last two mirror it. A resumed run first drops what was written after its
checkpoint, so that the files end up like those of an uninterrupted run.
"""

import json
import math
import numbers
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.boards.tensorboard import FOLDER as TENSORBOARD_FOLDER
from gptgan_jax.boards.tensorboard import TensorBoard
from gptgan_jax.boards.wandb_run import WandbRun, import_wandb
from gptgan_jax.config import RecordsConfig
from gptgan_jax.system.atomic_files import whole_file

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.txt"
RESERVED = frozenset({"phase", "step", "alarm"})
HEADER = re.compile(r"== (.+) step (\d+) ==")
# Metrics of held-out text, which all phases share; the boards show them in one chart.
VALIDATION = "valid_"


@dataclass(frozen=True)
class SampleBlock:
    """One block of samples.txt: the samples of one evaluation, one per line."""

    phase: str
    step: int
    lines: tuple[str, ...]


def one_line(text: str) -> str:
    r"""The text with line breaks and control characters as visible escapes (\n, \x1b), harmless to a terminal."""
    return "".join(
        char.encode("unicode_escape").decode()
        if char != "\t" and unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        else char
        for char in text
    )


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run folder, oldest first, without any line that a kill left half-written.

    Each has "phase" and "step", and either metrics (None if not finite) or "alarm".
    """
    return [record for _, record in _metric_lines(Path(folder) / METRICS_FILE)]


def read_samples(folder: str | Path) -> list[SampleBlock]:
    """The blocks of a run folder's samples.txt, oldest first, without a half-written one."""
    path = Path(folder) / SAMPLES_FILE
    if not path.exists():
        return []
    blocks: list[tuple[str, int, list[str]]] = []
    # Not splitlines(), as a text may contain exotic separators; what follows the last "\n" is half a line.
    for line in path.read_bytes().decode("utf-8", errors="replace").split("\n")[:-1]:
        if header := HEADER.fullmatch(line):
            blocks.append((header[1], int(header[2]), []))
        elif blocks:
            blocks[-1][2].append(line)
    # A complete block ends with an empty line.
    return [SampleBlock(phase, step, tuple(lines[:-1])) for phase, step, lines in blocks if "" in lines]


class Records:
    """The open records of a run. Only one process may write: with active=False, calls do nothing.

    Call `flush` before saving a checkpoint, which promises that everything up to its step is recorded.
    """

    def __init__(
        self,
        folder: Path,
        config: RecordsConfig,
        resume_step: int | None,
        active: bool,
        keys: Mapping[str, Any],
        unevaluated: bool,
    ) -> None:
        """Use `Records.open`."""
        self.folder = folder
        self.active = active
        if not active:
            return
        # First, as it may be refused: a user's mistake must not change the records.
        project, resumed = config.wandb_project, resume_step is not None
        wandb = WandbRun(folder, project, resumed, keys) if project else None
        folder.mkdir(parents=True, exist_ok=True)
        keep_until = -1 if resume_step is None else resume_step
        _trim(folder, keep_until, unevaluated)
        self._metrics = (folder / METRICS_FILE).open("ab")
        self._samples = (folder / SAMPLES_FILE).open("ab")
        self._boards: list[TensorBoard | WandbRun] = [] if wandb is None else [wandb]
        if config.tensorboard:
            board = TensorBoard(folder / TENSORBOARD_FOLDER)
            board.begin(keep_until + 1, keys)
            self._boards.append(board)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        config: RecordsConfig,
        resume_step: int | None = None,
        active: bool = True,
        keys: Mapping[str, Any] | None = None,
        unevaluated: bool = False,
    ) -> "Records":
        """Opens the records of a run folder for writing.

        Args:
            folder: the run folder; created if it does not exist.
            config: where metrics go besides metrics.jsonl.
            resume_step: the step of the checkpoint that the run resumes from; records of later steps are dropped. None
                for a run that starts at the beginning: *everything* is dropped.
            active: whether this process writes; with False nothing is read, written or imported.
            keys: of the run's config, shown on the boards.
            unevaluated: whether the evaluation of the resume step is still to be made; what one that ended before its
                figures were in the checkpoint has recorded is dropped.

        Raises:
            UserError: Weights & Biases is enabled, and isn't installed or isn't logged in.
        """
        return cls(Path(folder), config, resume_step, active, keys or {}, unevaluated)

    def write(
        self, phase: str, step: int, figures: Mapping[str, float], shown: Mapping[str, float] | None = None
    ) -> dict[str, float | None]:
        """Records the metrics of one step, all in one line of metrics.jsonl.

        Args:
            phase: the name of the training phase; tags on the boards are "phase/figure", or "validation/figure" for
                validation metrics.
            step: the global step, counted across phases.
            figures: real scalars, also 0-d arrays; rounded to 6 significant digits, null if not finite.
            shown: values for the boards only, such as learning rates and tokens per second.

        Returns:
            the recorded values: rounded, None if not finite.

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
        tagged = {_tag(phase, name): value for name, value in [*values.items(), *(shown or {}).items()]}
        for board in self._boards:
            board.figures(int(step), tagged)
        return recorded

    def alarm(self, phase: str, step: int, text: str) -> None:
        """Records a sign of trouble in the training, as {"phase", "step", "alarm": text}."""
        if self.active:
            self._append({"phase": phase, "step": int(step), "alarm": text})

    def samples(self, phase: str, step: int, lines: Iterable[str]) -> None:
        """Appends texts to samples.txt, one per line, under a header such as "== likelihood step 200 =="."""
        if self.active:
            # A text must neither be empty, which ends a block, nor look like a header.
            texts = [one_line(line) or "(empty)" for line in lines]
            texts = [" " + text if HEADER.fullmatch(text) else text for text in texts]
            self._samples.write(_block_bytes(SampleBlock(phase, int(step), tuple(texts))))
            self._samples.flush()
            for board in self._boards:
                board.texts(int(step), "samples", texts)

    def flush(self) -> None:
        """Returns when everything recorded so far is on the disk."""
        if self.active:
            for file in (self._metrics, self._samples):
                file.flush()
                os.fsync(file.fileno())
            for board in self._boards:
                board.flush()

    def close(self, failed: bool = False) -> None:
        """Flushes and closes everything, once; `failed` is the status that Weights & Biases shows."""
        if not self.active:
            return
        self.flush()
        self.active = False
        self._metrics.close()
        self._samples.close()
        for board in self._boards:
            if isinstance(board, WandbRun):
                board.close(failed)
            else:
                board.close()

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A signal or Ctrl-C is no failure, and not an Exception.
        self.close(failed=kind is not None and issubclass(kind, Exception))

    def _append(self, record: Mapping[str, Any]) -> None:
        self._metrics.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        # Passed to the operating system at once, so that a killed process loses nothing.
        self._metrics.flush()


def _tag(phase: str, name: str) -> str:
    return f"validation/{name.removeprefix(VALIDATION)}" if name.startswith(VALIDATION) else f"{phase}/{name}"


def _plain(value: Any) -> int | float:
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(f"{float(value):.6g}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _metric_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Each readable line of metrics.jsonl, as bytes and parsed."""
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


def _trim(folder: Path, keep_until: int, unevaluated: bool) -> None:
    kept = [(line, record) for line, record in _metric_lines(folder / METRICS_FILE) if record["step"] <= keep_until]
    if unevaluated:
        first = (i for i, (_, record) in enumerate(kept) if record["step"] == keep_until and _is_validation(record))
        kept = kept[: next(first, len(kept))]
    # Rewritten even if nothing is dropped: if they were links, the run would append to other files.
    with whole_file(folder / METRICS_FILE) as file:
        file.writelines(line + b"\n" for line, _ in kept)
    last = keep_until - unevaluated
    blocks = [_block_bytes(block) for block in read_samples(folder) if block.step <= last]
    with whole_file(folder / SAMPLES_FILE) as file:
        file.writelines(blocks)


def _is_validation(record: Mapping[str, Any]) -> bool:
    return any(name.startswith(VALIDATION) for name in record)


def check_available(config: RecordsConfig) -> None:
    """Raises UserError if the config enables Weights & Biases and it isn't installed."""
    if config.wandb_project is not None:
        import_wandb()
