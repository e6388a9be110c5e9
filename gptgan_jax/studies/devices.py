"""The part of the machine that each worker of a study uses: some of the cores, or an accelerator.

A process takes every accelerator that it sees, so environment variables limit what it sees: CUDA_VISIBLE_DEVICES,
ROCR_VISIBLE_DEVICES, and for TPUs TPU_VISIBLE_CHIPS with the bounds of a mesh of one chip. The study's own process
uses no accelerator, as a TPU chip belongs to one process at a time.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from gptgan_jax.errors import UserError

# The variable that limits which devices of a platform a process sees.
VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "ROCR_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}
FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
# The share of a GPU's memory for all processes on it.
SHARED_MEMORY = 0.9
LOOK_SECONDS = 180
# A TPU of an earlier generation has two devices per chip.
_LOOK = """
import json, jax
devices = jax.local_devices()
chips = {tuple(getattr(device, "coords", None) or [device.id]) for device in devices}
version = getattr(devices[0].client, "platform_version", "").lower()
kind = devices[0].platform
print(json.dumps({"kind": ("rocm" if "rocm" in version else "cuda") if kind == "gpu" else kind, "count": len(chips)}))
"""


@dataclass(frozen=True)
class Machine:
    """The devices of a machine: "cpu" and its cores, or "cuda", "rocm" or "tpu" and the number of accelerators."""

    kind: str
    count: int


@dataclass(frozen=True)
class Slot:
    """The place of a worker.

    Attributes:
        environment: variables in addition to those of the study's own process.
        cores: on which it may run; None for all.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    cores: frozenset[int] | None = None


def this_machine() -> Machine:
    """The machine as JAX sees it in a separate, short-lived process.

    Raises:
        UserError: JAX can't list the devices.
    """
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return Machine("cpu", len(cores_here()))
    try:
        found = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, timeout=LOOK_SECONDS)
        look = json.loads(found.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise UserError(
            f"JAX did not say in {LOOK_SECONDS} seconds which devices there are; another process may hold them"
        ) from None
    except (ValueError, IndexError):
        why = (found.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"JAX can't say which devices there are: {why[:200]}") from None
    return Machine("cpu", len(cores_here())) if look["kind"] == "cpu" else Machine(look["kind"], look["count"])


def cores_here() -> list[int]:
    """The CPU cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def slots_of(machine: Machine, workers: int | None, environment: Mapping[str, str], cores: list[int]) -> list[Slot]:
    """A slot for each worker.

    Args:
        machine: shared by all workers.
        workers: their number; by default one, and on accelerators one for each. A single one has all devices.
        environment: of this process, which may make only some devices visible.
        cores: shared by all workers.

    Raises:
        UserError: more workers than a TPU has chips.
    """
    if machine.kind == "cpu":
        count = workers or 1
        # More threads than cores cost more than they gain, and so does a core shared by two workers.
        shares = [frozenset(cores[i::count]) if 1 < count <= len(cores) else None for i in range(count)]
        return [Slot(cores=share) for share in shares]
    count = workers or machine.count
    if count == 1:
        return [Slot()]
    if machine.kind == "tpu" and count > machine.count:
        raise UserError(
            f"--workers {count}: this TPU has {machine.count} chips, and a chip serves one process; give less"
        )
    variable = VISIBLE[machine.kind]
    shown = [one.strip() for one in environment.get(variable, "").split(",") if one.strip()]
    names = shown if len(shown) == machine.count else [str(i) for i in range(machine.count)]
    slots = []
    for i in range(count):
        own = {variable: names[i % machine.count]}
        if machine.kind == "tpu":
            own |= {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
        sharing = math.ceil(count / machine.count)
        if sharing > 1 and not any(name in environment for name in FRACTIONS):
            own[FRACTIONS[0]] = f"{SHARED_MEMORY / sharing:.2f}"
        slots.append(Slot(own))
    return slots


def leave_accelerators(devices: int) -> None:
    """Makes JAX in this process use the CPU, as that many devices, unless JAX is initialised already.

    A study's own process only reads shapes, and checks that its runs can split their batches.
    """
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", devices)
        jax.config.update("jax_platforms", "cpu")
    except RuntimeError:  # JAX was used before in this program
        return
