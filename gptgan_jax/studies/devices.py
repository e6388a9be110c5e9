"""What each worker of a study has of the machine: some of its cores, or an accelerator of its own.

A process takes every accelerator that it sees, so the environment says which one it sees: CUDA_VISIBLE_DEVICES,
ROCR_VISIBLE_DEVICES, and for TPUs TPU_VISIBLE_CHIPS with the bounds of a mesh of one chip. The study's own process
leaves the accelerators alone, as a TPU's chip belongs to one process at a time.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from gptgan_jax.errors import UserError

# The variable by which a process is told which devices of a platform it has.
VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "ROCR_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}
FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
# Of a GPU's memory, for all that share it.
SHARED_MEMORY = 0.9
LOOK_SECONDS = 180
# A TPU of an earlier generation has two devices on a chip.
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
    """What a process would run on: "cpu" and its cores, or "cuda", "rocm" or "tpu" and how many of them."""

    kind: str
    count: int


@dataclass(frozen=True)
class Slot:
    """A worker's place.

    Attributes:
        environment: variables beside those of the study's own process.
        cores: that it may run on; None for all.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    cores: frozenset[int] | None = None


def this_machine() -> Machine:
    """The machine as a process of its own sees it, which is gone afterwards.

    Raises:
        UserError: where JAX can't say.
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
    """The processor's cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def slots_of(machine: Machine, workers: int | None, environment: Mapping[str, str], cores: list[int]) -> list[Slot]:
    """A slot for each worker.

    Args:
        machine: that they share.
        workers: how many; by default one, and on accelerators one for each. A single one has all devices.
        environment: of this process, which may leave only some devices visible.
        cores: that they share.

    Raises:
        UserError: more workers than a TPU has chips.
    """
    if machine.kind == "cpu":
        count = workers or 1
        # More threads than cores cost more than they bring; so does a core that two have to share.
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
    """Has JAX in this process compute on the processor, as on so many devices, where it has not begun yet.

    A study's own process only looks at shapes, and checks that batches can be split as its runs will do.
    """
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", devices)
        jax.config.update("jax_platforms", "cpu")
    except RuntimeError:  # as in a program that has used JAX before
        return
