"""`make device`: what differs is told, a part that fails stops no other, and what a file has of other parts stays."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import device, parity  # noqa: E402
from benchmarks.work import peak_of  # noqa: E402

KNOWN = {"hardware": "a machine", "backend": "gpu", "kind": "NVIDIA H200", "jax": "1.0"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine that is described and starts no process."""
    found = dict(KNOWN)
    monkeypatch.setattr(device, "run_python", lambda *_, **__: json.dumps(found))
    return found


def parts(monkeypatch: pytest.MonkeyPatch, **made: Any) -> None:
    monkeypatch.setattr(device, "PARTS", made)


def passing(bench: device.Bench, folder: Path) -> dict[str, Any]:
    return {"differences": {"float32/a": 1e-6, "drawn~": 2.0}}


def test_a_kernel_that_computes_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        found = parity.cross_entropy("tiny", {})
        with monkeypatch.context() as patched:
            patched.setattr(parity, "token_log_probs", lambda logits, tokens: parity.entropy(logits))
            other = parity.cross_entropy("tiny", found)
    finally:
        jax.config.update("jax_default_matmul_precision", None)
    apart, wrong = parity.compared(found, other)
    assert {name for name in apart if name.startswith("bfloat16") and apart[name] > 0}  # the CPU computes in float32
    assert {line.split()[0] for line in wrong} == {
        "float32/token_log_probs/value",
        "float32/token_log_probs/gradient_0",
    }


def test_correctness_comes_first_and_no_part_hides_another() -> None:
    assert list(device.PARTS)[: len(parity.PARTS)] == list(parity.PARTS)
    assert len(device.PARTS) == len(parity.PARTS) + 1 + len(device.TIMED) + 2 * len(device.AGAINST)


def test_what_differs_by_more_than_rounding_is_told() -> None:
    x, tokens = np.linspace(-2, 2, 5, dtype=np.float32), np.arange(4)
    device_side = {"float32/a": x, "tokens": tokens, "drawn~": np.full(3, 1.5), "given/b": x}
    apart, wrong = parity.compared(device_side, {"float32/a": x + 1e-4, "tokens": tokens, "drawn~": np.zeros(3)})
    assert not wrong
    assert apart["float32/a"] == pytest.approx(5e-5, rel=0.1)
    for other, name in (
        ({"float32/a": x + 3e-3}, "float32/a"),
        ({"float32/a": x * np.nan}, "float32/a"),
        ({"float32/a": x[:-1]}, "float32/a"),
        ({"tokens": np.array([0, 1, 3, 2])}, "tokens"),
        ({"drawn~": np.full(3, -5.0)}, "drawn~"),
        ({"bfloat16/new": x}, "bfloat16/new"),
    ):
        _, wrong = parity.compared(device_side, {"float32/a": x, "tokens": tokens, "drawn~": np.zeros(3)} | other)
        assert len(wrong) == 1
        assert wrong[0].startswith(name)


def test_a_part_that_fails_leaves_its_reason_and_the_others_go_on(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    written = []

    def told(*_: Any) -> dict[str, Any]:
        raise SystemExit("benchmarks: a module failed:\nTraceback\n  RuntimeError: out of memory\n")

    def differing(*_: Any) -> dict[str, Any]:
        raise device.Failed("a differs by 2", {"differences": {"a": 2.0}})

    def late(bench: device.Bench, *_: Any) -> dict[str, Any]:
        raise subprocess.TimeoutExpired("python", 1)

    def absent(*_: Any) -> dict[str, Any]:
        raise device.Skipped("no PyTorch with CUDA here")

    def last(*_: Any) -> dict[str, Any]:
        written.extend(json.loads(out.read_text())["parts"])
        return passing(*_)

    parts(monkeypatch, told=told, differing=differing, late=late, absent=absent, last=last)
    assert device.main(["--out", str(out)]) == 1
    assert written == ["told", "differing", "late", "absent"]  # each was in the file when it ended
    found = json.loads(out.read_text())
    assert found["device"] == KNOWN
    assert found["size"] == "full"
    reasons = {name: (one["status"], one.get("reason")) for name, one in found["parts"].items()}
    assert reasons == {
        "told": ("failed", "RuntimeError: out of memory"),
        "differing": ("failed", "a differs by 2"),
        "late": ("failed", "took longer than 600 s"),
        "absent": ("skipped", "no PyTorch with CUDA here"),
        "last": ("passed", None),
    }
    assert found["parts"]["differing"]["differences"] == {"a": 2.0}
    printed = capsys.readouterr().out
    assert "| told | **failed**: RuntimeError: out of memory |" in printed
    assert "| last | passed: 2 arrays; the furthest apart is float32/a, by 1.0e-06 of its largest entry |" in printed


def test_other_parts_stay_in_the_file_unless_the_machine_is_another(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    parts(monkeypatch, one=passing, two=passing)
    assert device.main(["--out", str(out), "--parts", "two"]) == 0
    assert device.main(["--out", str(out), "--parts", "one"]) == 0
    assert list(json.loads(out.read_text())["parts"]) == ["one", "two"]
    here["jax"] = "1.1"
    assert device.main(["--out", str(out), "--parts", "one"]) == 0
    assert list(json.loads(out.read_text())["parts"]) == ["one"]


def test_bad_options_are_told_in_a_line_before_anything_runs(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "notes.json"
    other.write_text("[1, 2]")
    here["backend"] = "cpu"
    for arguments, words in (
        (["--out", str(tmp_path / "none" / "r.json")], "there is no folder"),
        (["--out", str(tmp_path / "r.json")], "JAX finds no accelerator here"),
        (["--out", str(other), "--size", "tiny"], "is another file"),
        (["--out", str(tmp_path / "r.json"), "--parts", "all"], "invalid choice: 'all'"),
    ):
        with pytest.raises(SystemExit) as raised:
            device.main(arguments)
        assert raised.value.code == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert other.read_text() == "[1, 2]"
    assert not (tmp_path / "r.json").exists()


def test_mfu_is_of_the_published_peak_where_that_is_known() -> None:
    assert peak_of("TPU v5 lite") == 197e12
    assert peak_of("TPU v5p") is None  # JAX names that chip TPU v5
    assert peak_of("TPU v5") == 459e12
    assert peak_of("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_of("NVIDIA L40S") is None
    assert peak_of("NVIDIA H100 PCIe") is None
    bench = device.Bench("full", KNOWN)
    timing = {"median": 0.05, "seconds": [0.04, 0.06], "compile": 3.0, "peak_bytes": 2**30}
    found = device.speed("gpt2_likelihood", bench, timing)
    assert found["tokens_per_s"] == 8 * 1024 / 0.05
    assert found["mfu"] == pytest.approx(6.54e12 / 0.05 / 989.5e12, rel=2e-3)
    assert "MFU 13%" in device.table(KNOWN, {"time_gpt2_likelihood": {"status": "passed", "seconds": 9.0, **found}})


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("part", [*parity.PARTS, "time_gpt2_likelihood", "time_seqgan", "profile_gpt2_likelihood"])
def test_it_runs_on_a_cpu_at_a_tiny_size(part: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.device", "--size", "tiny", "--parts", part]
    done = subprocess.run([*command, "--out", str(tmp_path / "r.json")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["parts"][part]["status"] == "passed"
