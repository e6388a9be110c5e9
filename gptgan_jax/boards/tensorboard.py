"""TensorBoard's event files: figures, sample texts, the config, and final scores beside the hyper-parameters."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"
FLUSH_SECONDS = 10.0
_SCORES = ".scores"


class TensorBoard:
    """An event file. Not tensorboardX's SummaryWriter: its flush leaves events in a queue, lost at a kill."""

    def __init__(self, folder: Path, ending: str = "") -> None:
        from tensorboardX import event_file_writer, proto, summary

        folder.mkdir(parents=True, exist_ok=True)
        self._proto, self._summary = proto, summary
        # The suffix keeps a run that is resumed within the same second from overwriting its own events.
        self._file = event_file_writer.EventsWriter(str(folder / "events"), f".{time.time_ns()}{ending}")

    def begin(self, purge_step: int, keys: Mapping[str, Any]) -> None:
        """Drops what earlier files have of this step and later ones, and shows the keys of the config."""
        start = self._proto.event_pb2.SessionLog(status=self._proto.event_pb2.SessionLog.START)
        self._write(purge_step, session_log=start)
        if keys:
            rows = "\n".join(f"| {name} | {value} |" for name, value in keys.items())
            self._write(purge_step, summary=self._summary.text("config", f"| key | value |\n|---|---|\n{rows}"))
        self.flush()

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars by their tags."""
        summary = self._proto.summary_pb2.Summary()
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=value)
        self._write(step, summary=summary)
        if time.time() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def texts(self, step: int, tag: str, lines: Sequence[str]) -> None:
        """Sample texts, each shown as it is."""
        # Indented by four spaces, Markdown shows a line literally.
        self._write(step, summary=self._summary.text(tag, "\n".join(f"    {line}" for line in lines)))

    def hyper_parameters(self, keys: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """A row of TensorBoard's table of hyper-parameters: the keys of a config, and what came of them."""
        plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in keys.items()}
        for summary in self._summary.hparams(plain, dict(scores)):
            self._write(0, summary=summary)
        self.figures(0, scores)

    def flush(self) -> None:
        """Returns when everything is on the disk."""
        self._file.flush()
        self._flushed = time.time()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        self._file.write_event(self._proto.event_pb2.Event(step=step, wall_time=time.time(), **content))

    _flushed = 0.0


def write_scores(folder: Path, keys: Mapping[str, Any], scores: Mapping[str, float]) -> None:
    """Writes the final scores of a run beside its hyper-parameters, in place of those of an earlier evaluation."""
    for earlier in folder.glob(f"events*{_SCORES}"):
        earlier.unlink()
    board = TensorBoard(folder, _SCORES)
    board.hyper_parameters(keys, scores)
    board.close()
