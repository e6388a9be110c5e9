"""A description of this machine: hardware, versions, measured rate of matrix products and bandwidth of memory.

`python -m benchmarks.machine` prints it as JSON; with `identity` it measures nothing, and gives more about the device.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.extend.backend
import jax.numpy as jnp
import numpy as np

SIZE = 2048  # of the matrices whose product is timed on a CPU
ACCELERATOR_SIZE = 8192  # on an accelerator, a smaller product takes no longer than its launch
LARGE, SMALL = 2**27, 2**22  # entries of float32: 512 MiB, more than any cache, and 16 MiB, which fit in a large one
REPEATS = 15
DRIVERS = ("jax", "jaxlib", "flax", "optax", "numpy", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin", "torch")


def identity() -> dict[str, Any]:
    """The device that JAX computes on, and the versions of its software, without measuring anything."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {
        "hardware": hardware(),
        "backend": jax.default_backend(),
        "kind": device.device_kind,
        "devices": jax.device_count(),
        "memory_bytes": stats.get("bytes_limit"),
        "platform_version": " ".join(jax.extend.backend.get_backend().platform_version.split()),
        "python": platform.python_version(),
        **{name: found for name in DRIVERS if (found := _version(name))},
    }


def describe() -> dict[str, Any]:
    """Hardware, versions and measured rates, in FLOP/s and bytes/s; that of bfloat16 only on an accelerator."""
    accelerated = jax.default_backend() != "cpu"
    return {
        "hardware": hardware(),
        "backend": jax.default_backend(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("jax", "flax", "torch", "transformers", "nltk", "numpy")},
        "matmul_rate": matmul_rate(),
        "bfloat16_rate": matmul_rate(jnp.bfloat16) if accelerated else None,
        "bandwidth": bandwidth(LARGE),
        "cache_bandwidth": bandwidth(SMALL),
    }


def hardware() -> str:
    """The accelerator or processor, and the number of them."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"


def matmul_rate(dtype: Any = jnp.float32) -> float:
    """FLOP/s of a product of two square matrices at JAX's default precision, in the best repetition."""
    size = SIZE if jax.default_backend() == "cpu" else ACCELERATOR_SIZE
    x = jnp.ones((size, size), dtype)
    return 2 * size**3 / _best(jax.jit(lambda x: x @ x), x)


def peak_bytes() -> int:
    """The peak memory of this process: on the accelerator if JAX has one, else in main memory."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return int(stats["peak_bytes_in_use"]) if stats else resident_peak()


def resident_peak() -> int:
    """Peak bytes of main memory of this process, or of a child that it has waited for, including libraries."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024


def bandwidth(entries: int) -> float:
    """Bytes/s of a copy of a float32 array, counting reads and writes, in the best repetition."""
    x = jnp.ones(entries, jnp.float32)
    return 2 * x.nbytes / _best(jax.jit(lambda x: x + 1), x)


def _best(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    jax.block_until_ready(function(x))
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - begin)
    return float(np.min(seconds))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(json.dumps(identity() if sys.argv[1:] == ["identity"] else describe()))
