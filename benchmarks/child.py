"""One side of one case in a process of its own: python -m benchmarks.child SIDE CASE MODE FOLDER SETTINGS

Modes: `outputs` saves the outputs of the side, and compares theirs with ours; `time` prints seconds as JSON; `compile`,
only for ours, compiles the step for shapes and prints seconds and bytes; `profile`, only for ours, prints the costliest
operations. The settings may have `overrides` of the case's config.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sides import CASES, Arrays, Side, config_of, load, save

LEAST_REPEATS = 5
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.2}
"""The largest difference of an array, relative to its largest entry, that counts as rounding, by dtype of the products.

The relative error of bfloat16 operands is up to 0.4 %. For a gradient that is a small difference of larger terms, such
as an untrained discriminator's on real and generated texts, the error is a tenth of the largest entry, measured on the
tiny networks of tests/test_benchmarks.py; the same networks on another text differ by more than 0.2.
"""


def main() -> None:
    name, case, mode, folder_text, settings_text = sys.argv[1:]
    folder, settings = Path(folder_text), json.loads(settings_text)
    if mode == "compile":
        from benchmarks import ours

        print(json.dumps(ours.compile_only(case)))
        return
    if mode == "profile":
        from benchmarks import operations

        print(json.dumps(operations.shares(case, folder, settings.get("overrides", ()))))
        return
    overrides = settings.get("overrides", ())
    side, peak = make(name, case, folder, settings, exact=mode == "outputs")
    if mode == "outputs":
        print(json.dumps(compare(name, side, folder, config_of(case, overrides).generator.dtype)))
    elif CASES[case].once:
        print(json.dumps(once(side, peak, CASES[case].unit)))
    else:
        print(json.dumps(timed(side, peak, settings["seconds"])))


def make(name: str, case: str, folder: Path, settings: dict[str, Any], exact: bool) -> tuple[Side, Callable[[], int]]:
    """A side, and a function that returns its peak memory.

    By default JAX rounds the operands of float32 products on an accelerator; with `exact` it does not, so that outputs
    can be compared. Both sides are timed with JAX's default.
    """
    config = None if CASES[case].of_model else config_of(case, settings.get("overrides", ()))
    if name == "ours":
        import jax

        from benchmarks import machine, ours, ours_of_model

        if exact and jax.default_backend() != "cpu":
            jax.config.update("jax_default_matmul_precision", "highest")
        return (ours.side(case, config) if config else ours_of_model.side(case)), machine.peak_bytes
    import torch

    from benchmarks import theirs, theirs_of_model, torch_parts

    if "threads" in settings:
        torch.set_num_threads(settings["threads"])
    torch_parts.set_precision(exact)
    given = load(folder / "given.npz")
    made = theirs.side(case, given, settings, config) if config else theirs_of_model.side(case, given, settings)
    return made, torch_parts.peak_bytes


def timed(side: Side, peak: Callable[[], int], budget: float) -> dict[str, Any]:
    """Seconds of each repetition, after one for compilation and one for warmup."""
    start = time.perf_counter()
    side.run()
    first = time.perf_counter() - start
    side.run()
    seconds: list[float] = []
    start = time.perf_counter()
    while len(seconds) < LEAST_REPEATS or time.perf_counter() - start < budget:
        once = time.perf_counter()
        side.run()
        seconds.append(time.perf_counter() - once)
    return {
        "seconds": seconds,
        "median": float(np.median(seconds)),
        "first": first,
        "compile": first - float(np.median(seconds)),
        "peak_bytes": peak(),
    }


def once(side: Side, peak: Callable[[], int], unit: str) -> dict[str, Any]:
    """Seconds of the only run, including compilation: wall-clock or processor time."""
    clock = time.perf_counter if unit == "s" else processor_seconds
    start = clock()
    side.run()
    seconds = clock() - start
    return {"seconds": [seconds], "median": seconds, "compile": 0.0, "peak_bytes": peak()}


def processor_seconds() -> float:
    """Processor time of this process and of the child processes that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def compare(name: str, side: Side, folder: Path, dtype: str) -> dict[str, float]:
    """Saves our outputs, or compares theirs with them. Returns the difference of each array."""
    found = side.outputs()
    if name == "ours":
        save(folder / "given.npz", side.given())
        save(folder / "outputs.npz", found)
        return {}
    ours = side.translate(load(folder / "outputs.npz"))
    if dtype == "bfloat16":
        ours, found = whole_gradients(ours), whole_gradients(found)
    return differences(ours, found, TOLERANCES[dtype])


def whole_gradients(arrays: Arrays) -> Arrays:
    """The arrays of each gradient, named "...gradient/...", concatenated in the order of their names.

    The gradient of a bias is a sum of many terms that nearly cancel, so its rounding error is relative to the terms and
    not to the sum.
    """
    found = {name: x for name, x in arrays.items() if "gradient/" not in name}
    for prefix in {name.partition("/")[0] for name in arrays.keys() - found.keys()}:
        parts = [arrays[name].ravel() for name in sorted(arrays) if name.startswith(f"{prefix}/")]
        found[prefix] = np.concatenate(parts)
    return found


def differences(ours: Arrays, theirs: Arrays, tolerance: float = TOLERANCES["float32"]) -> dict[str, float]:
    """The largest difference of each array in `theirs`, relative to the largest entry.

    Integers must be equal. Arrays named "...~" are random estimates: their means may differ by five standard errors,
    and the difference is given in standard errors.

    Raises:
        SystemExit: a difference is too large.
    """
    apart: dict[str, float] = {}
    for name, x in theirs.items():
        y = ours[name]
        if x.shape != y.shape:
            raise SystemExit(f"{name}: ours has the shape {y.shape}, theirs {x.shape}")
        if np.issubdtype(x.dtype, np.integer):
            apart[name], most = float((x != y).mean()), 0.0
        elif name.endswith("~"):
            errors = [one.std() / np.sqrt(one.size) for one in (x, y)]
            apart[name], most = float(abs(x.mean() - y.mean()) / np.hypot(*errors)), 5.0
        else:
            apart[name], most = float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-12)), tolerance
        if not apart[name] <= most:
            raise SystemExit(f"{name}: ours and theirs differ by {apart[name]:.3g}, more than {most:.3g}")
    return apart


if __name__ == "__main__":
    main()
