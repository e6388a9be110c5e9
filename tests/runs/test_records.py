"""A run's records: what is on disk after a kill and a resume is what an uninterrupted run would have written."""

import json
import math
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

from gptgan_jax.boards import tensorboard, wandb_run
from gptgan_jax.config import RecordsConfig
from gptgan_jax.errors import UserError
from gptgan_jax.runs.records import Records, one_line, read_metrics, read_samples

PLAIN = RecordsConfig(tensorboard=False)


def write_steps(records: Records, first: int, last: int) -> None:
    for step in range(first, last + 1):
        phase = "likelihood" if step <= 5 else "adversarial"
        records.write(phase, step, {"loss": 1 / step, "tokens": 100 * step})
        if step % 3 == 0:
            records.alarm(phase, step, f"odd at {step}")
            records.samples(phase, step, [f"text {step}", "", "== likelihood step 1 ==", "ends\nhere"])


def contents(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "metrics.jsonl").read_bytes(), (folder / "samples.txt").read_bytes()


def tensorboard_events(folder: Path) -> list[event_pb2.Event]:
    events = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


@pytest.mark.parametrize("resume_step", [0, 2, 3, 6, 9, 10])
def test_a_resumed_run_writes_the_files_of_an_uninterrupted_one(tmp_path: Path, resume_step: int) -> None:
    with Records.open(tmp_path / "whole", PLAIN) as records:
        write_steps(records, 1, 12)
    with Records.open(tmp_path / "killed", PLAIN) as records:
        write_steps(records, 1, 10)
    with Records.open(tmp_path / "killed", PLAIN, resume_step=resume_step) as records:
        assert [m["step"] for m in read_metrics(tmp_path / "killed") if "loss" in m] == [*range(1, resume_step + 1)]
        assert all(block.step <= resume_step for block in read_samples(tmp_path / "killed"))
        write_steps(records, resume_step + 1, 12)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.txt"])
def test_a_file_torn_at_any_byte_resumes(tmp_path: Path, name: str) -> None:
    with Records.open(tmp_path / "whole", PLAIN) as records:
        write_steps(records, 1, 6)
    with Records.open(tmp_path / "torn", PLAIN) as records:
        write_steps(records, 1, 3)
        kept = len((tmp_path / "torn" / name).read_bytes())
        write_steps(records, 4, 6)
    data = (tmp_path / "torn" / name).read_bytes()
    for length in range(kept, len(data)):
        (tmp_path / "torn" / name).write_bytes(data[:length])
        with Records.open(tmp_path / "torn", PLAIN, resume_step=3) as records:
            write_steps(records, 4, 6)
        assert contents(tmp_path / "torn") == contents(tmp_path / "whole"), length


def test_readers_skip_what_is_half_written(tmp_path: Path) -> None:
    with Records.open(tmp_path, PLAIN) as records:
        write_steps(records, 1, 6)
    for name in ("metrics.jsonl", "samples.txt"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-4])
    assert [m["step"] for m in read_metrics(tmp_path)] == [1, 2, 3, 3, 4, 5, 6]
    assert [block.step for block in read_samples(tmp_path)] == [3]


def test_a_run_from_the_beginning_drops_what_an_earlier_one_left(tmp_path: Path) -> None:
    with Records.open(tmp_path, PLAIN) as records:
        write_steps(records, 1, 6)
    Records.open(tmp_path, PLAIN, resume_step=None).close()
    assert contents(tmp_path) == (b"", b"")


def test_every_line_is_json_whatever_the_figures(tmp_path: Path) -> None:
    figures: dict[str, Any] = {
        "a": math.nan,
        "b": math.inf,
        "c": np.float32(-np.inf),
        "d": np.float32(1.23456789),
        "n": 12345678,
    }
    with Records.open(tmp_path, RecordsConfig()) as records:
        records.write("likelihood", 1, figures)
        records.alarm("likelihood", 1, 'quote " and \n break and \udc80')
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert first == {
        "phase": "likelihood",
        "step": 1,
        "a": None,
        "b": None,
        "c": None,
        "d": 1.23457,
        "n": 12345678,
    }
    assert second["alarm"] == 'quote " and \n break and \udc80'


def test_a_line_is_on_disk_before_the_records_are_closed(tmp_path: Path) -> None:
    with Records.open(tmp_path, PLAIN) as records:
        records.write("likelihood", 1, {"loss": 2.0})
        records.samples("likelihood", 1, ["a text"])
        assert read_metrics(tmp_path) == [{"phase": "likelihood", "step": 1, "loss": 2.0}]
        assert read_samples(tmp_path)[0].lines == ("a text",)


def test_a_figure_cannot_replace_the_step(tmp_path: Path) -> None:
    with Records.open(tmp_path, PLAIN) as records, pytest.raises(ValueError, match="'step'"):
        records.write("likelihood", 1, {"step": 2.0})


def test_a_sample_is_one_line_without_control_characters(tmp_path: Path) -> None:
    text = "a\r\nb\x1b[2J\u2028c é 😀\u00a0d\udc80"
    with Records.open(tmp_path, PLAIN) as records:
        records.samples("likelihood", 1, [text, "== likelihood step 9 ==", ""])
    (block,) = read_samples(tmp_path)
    assert block.lines == (
        "a\\r\\nb\\x1b[2J\\u2028c é 😀\u00a0d\\udc80",
        " == likelihood step 9 ==",
        "(empty)",
    )
    assert one_line(one_line(text)) == one_line(text)


def test_tensorboard_events_read_back_and_a_resume_purges(tmp_path: Path) -> None:
    with Records.open(tmp_path, RecordsConfig()) as records:
        records.write("likelihood", 1, {"loss": 2.5, "gradient_norm": 0.5})
        records.write("likelihood", 2, {"loss": 2.25})
        records.flush()
        flushed = [event.step for event in tensorboard_events(tmp_path) if event.HasField("summary")]
        assert flushed == [1, 2], "flush must bring every event to the disk"
    with Records.open(tmp_path, RecordsConfig(), resume_step=1) as records:
        records.write("adversarial", 2, {"loss": 2.125})
    events = tensorboard_events(tmp_path)
    assert [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events if e.HasField("summary")] == [
        (1, {"likelihood/loss": 2.5, "likelihood/gradient_norm": 0.5}),
        (2, {"likelihood/loss": 2.25}),
        (2, {"adversarial/loss": 2.125}),
    ]
    starts = [e.step for e in events if e.session_log.status == event_pb2.SessionLog.START]
    assert starts == [0, 2], "TensorBoard drops what it has at and after the step of a START"


def test_an_inactive_process_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with Records.open(tmp_path / "run", RecordsConfig(wandb_project="p"), active=False) as records:
        write_steps(records, 1, 3)
        records.flush()
    assert not (tmp_path / "run").exists()


def test_a_missing_wandb_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"\.\[wandb\]"):
        Records.open(tmp_path / "run", RecordsConfig(wandb_project="p"))
    assert not (tmp_path / "run").exists()


class FakeWandb(types.ModuleType):
    """Notes what it is called with, in place of the network."""

    Error = RuntimeError

    def __init__(self) -> None:
        super().__init__("wandb")
        self.starts: list[dict] = []
        self.logged: list[tuple[int, dict]] = []
        self.exit_codes: list[int] = []
        self.summary: dict[str, float] = {}

    def init(self, **options: object) -> "FakeWandb":
        self.starts.append(options)
        return self

    def Table(self, columns: list[str], data: list[list[object]]) -> tuple:
        return tuple(columns), data

    def log(self, figures: dict, step: int) -> None:
        self.logged.append((step, figures))

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


def test_wandb_gets_the_figures_and_a_resume_continues_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = RecordsConfig(tensorboard=False, wandb_project="texts")
    interrupted = Records.open(tmp_path, config)
    interrupted.write("likelihood", 1, {"loss": 2.0})
    interrupted.__exit__(ValueError, ValueError(), None)
    Records.open(tmp_path, config, resume_step=1).__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    Records.open(tmp_path, config).close()
    assert wandb.logged == [(1, {"likelihood/loss": 2.0})]
    assert [options["config"] for options in wandb.starts] == [{}, {}, {}]
    assert wandb.exit_codes == [1, 0, 0]
    first, resumed, fresh = wandb.starts
    assert first["project"] == "texts"
    assert "mode" not in first, "the mode is the environment's"
    assert (resumed["id"], resumed["resume"]) == (first["id"], "allow")
    assert fresh["id"] != first["id"]


def test_the_boards_show_texts_the_config_and_validation_of_all_phases_under_one_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = RecordsConfig(wandb_project="texts")
    with Records.open(tmp_path, config, keys={"seed": 3, "likelihood.steps": 9}) as records:
        for step, phase in enumerate(("likelihood", "adversarial"), 1):
            records.write(phase, step, {"loss": 0.5}, {"tokens_per_second": 8.0})
            records.write(phase, step, {"valid_nats_per_token": 2.0})
        records.samples("likelihood", 2, ["a *text*", "b"])
    assert wandb.starts[0]["config"] == {"seed": 3, "likelihood.steps": 9}
    assert wandb.logged == [
        (1, {"likelihood/loss": 0.5, "likelihood/tokens_per_second": 8.0}),
        (1, {"validation/nats_per_token": 2.0}),
        (2, {"adversarial/loss": 0.5, "adversarial/tokens_per_second": 8.0}),
        (2, {"validation/nats_per_token": 2.0}),
        (2, {"samples": (("step", "text"), [[2, "a *text*"], [2, "b"]])}),
    ]
    events = [value for event in tensorboard_events(tmp_path) for value in event.summary.value]
    scalars = [value.tag for value in events if value.HasField("simple_value")]
    assert scalars == [tag for _, figures in wandb.logged[:-1] for tag in figures]
    texts = {value.tag: value.tensor.string_val[0].decode() for value in events if value.HasField("tensor")}
    assert texts["samples/text_summary"] == "    a *text*\n    b"
    assert "| likelihood.steps | 9 |" in texts["config/text_summary"]
    assert all("tokens_per_second" not in record for record in read_metrics(tmp_path)), "it is another in every run"


def test_scores_stand_beside_the_config_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    Records.open(tmp_path, RecordsConfig(wandb_project="texts")).close()
    for score in (1.0, 2.0):
        tensorboard.write_scores(
            tmp_path / "tensorboard", {"seed": 3, "name": "x", "data.store": None}, {"BLEU": score}
        )
        wandb_run.write_scores(tmp_path, "texts", {"BLEU": score})
    values = [value for event in tensorboard_events(tmp_path) for value in event.summary.value]
    assert [value.simple_value for value in values if value.tag == "BLEU"] == [2.0]
    started = [value for value in values if value.tag == "_hparams_/session_start_info"]
    content = plugin_hparams_pb2.HParamsPluginData.FromString(started[0].metadata.plugin_data.content)
    assert content.session_start_info.hparams["seed"].number_value == 3
    assert wandb.summary == {"BLEU": 2.0}
    assert [start["resume"] for start in wandb.starts] == [None, "allow", "allow"]
    wandb_run.write_scores(tmp_path / "other", "texts", {"BLEU": 3.0})
    assert wandb.summary == {"BLEU": 2.0}, "a folder without a run there starts none"


def test_a_wandb_that_refuses_leaves_the_records_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Records.open(tmp_path, PLAIN) as records:
        write_steps(records, 1, 6)
    before = contents(tmp_path)
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    def refuse(**options: object) -> None:
        raise wandb.Error("api_key not configured\nsecond line")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match="api_key not configured; 'wandb login'") as caught:
        Records.open(tmp_path, RecordsConfig(wandb_project="p"), resume_step=2)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
