"""What each worker has of the machine: disjoint cores, or one accelerator by the variable that its platform reads."""

import json
import subprocess
from typing import Any

import pytest

from gptgan_jax.errors import UserError
from gptgan_jax.studies import devices
from gptgan_jax.studies.devices import Machine, Slot, slots_of, this_machine

CPU = Machine("cpu", 5)
CORES = [0, 2, 3, 6, 7]


def test_workers_share_the_cores_without_overlap() -> None:
    shares = [slot.cores for slot in slots_of(CPU, 2, {}, CORES)]
    assert frozenset.union(*shares) == frozenset(CORES)
    assert sum(map(len, shares)) == len(CORES)
    assert abs(len(shares[0]) - len(shares[1])) <= 1


@pytest.mark.parametrize(("workers", "count"), [(None, 1), (1, 1), (9, 9)])
def test_one_worker_or_more_than_there_are_cores_have_all_of_them(workers: int | None, count: int) -> None:
    assert slots_of(CPU, workers, {}, CORES) == [Slot()] * count


def test_each_gpu_has_a_worker_by_default() -> None:
    slots = slots_of(Machine("cuda", 3), None, {}, CORES)
    assert [slot.environment for slot in slots] == [{"CUDA_VISIBLE_DEVICES": name} for name in "012"]


def test_a_single_worker_has_all_devices() -> None:
    for kind in ("cuda", "rocm", "tpu"):
        assert slots_of(Machine(kind, 8), 1, {}, CORES) == [Slot()]


def test_devices_that_were_chosen_already_are_those_that_are_shared_out() -> None:
    slots = slots_of(Machine("cuda", 2), 2, {"CUDA_VISIBLE_DEVICES": "5, 3"}, CORES)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["5", "3"]


def test_workers_that_share_a_gpu_share_its_memory() -> None:
    slots = slots_of(Machine("rocm", 2), 4, {}, CORES)
    assert [slot.environment["ROCR_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "0", "1"]
    assert {slot.environment["XLA_CLIENT_MEM_FRACTION"] for slot in slots} == {"0.45"}
    own = slots_of(Machine("rocm", 2), 4, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"}, CORES)
    assert all(set(slot.environment) == {"ROCR_VISIBLE_DEVICES"} for slot in own), "JAX refuses both"


def test_a_chip_of_a_tpu_is_a_mesh_of_its_own_and_serves_one_process() -> None:
    slots = slots_of(Machine("tpu", 8), None, {}, CORES)
    assert [slot.environment["TPU_VISIBLE_CHIPS"] for slot in slots] == list("01234567")
    bounds = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    assert all(bounds.items() <= slot.environment.items() for slot in slots)
    with pytest.raises(UserError, match="--workers 9: this TPU has 8 chips"):
        slots_of(Machine("tpu", 8), 9, {}, CORES)


def seen(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "") -> Machine:
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    found: Any = subprocess.CompletedProcess([], 0, stdout, stderr)
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: found)
    return this_machine()


def test_the_machine_is_what_another_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(monkeypatch, f"a warning\n{json.dumps({'kind': 'tpu', 'count': 4})}\n") == Machine("tpu", 4)
    assert seen(monkeypatch, json.dumps({"kind": "cpu", "count": 1})).kind == "cpu"
    with pytest.raises(UserError, match="JAX can't say which devices there are: no libtpu"):
        seen(monkeypatch, "", "Traceback\nno libtpu\n")


def test_what_looks_for_devices_prints_what_is_read(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    exec(devices._LOOK)  # the program itself, in this process
    assert json.loads(capsys.readouterr().out)["kind"] == "cpu"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert this_machine().kind == "cpu"
