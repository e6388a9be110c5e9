"""One side of one case in a process of its own: python -m benchmarks.child SIDE CASE MODE FOLDER SETTINGS

Modes: `outputs` writes what the side computes, and of theirs compares it with ours; `time` prints seconds as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sides import CASES, Arrays, Side, load, save

LEAST_REPEATS = 5
TOLERANCE = 1e-3
"""Largest difference of an array, over its largest entry, that counts as float32 rounding of sums in another order."""


def main() -> None:
    name, case, mode, folder_text, settings_text = sys.argv[1:]
    folder, settings = Path(folder_text), json.loads(settings_text)
    begin = time.perf_counter()
    side = make(name, case, folder, settings)
    if mode == "outputs":
        print(json.dumps(compare(name, side, folder)))
    else:
        print(json.dumps(once(side) if CASES[case].once else timed(side, settings["seconds"], begin)))


def make(name: str, case: str, folder: Path, settings: dict[str, Any]) -> Side:
    if name == "ours":
        from benchmarks import ours

        return ours.side(case)
    import torch

    from benchmarks import theirs

    torch.set_num_threads(settings["threads"])
    return theirs.side(case, load(folder / "given.npz"), settings)


def timed(side: Side, budget: float, begin: float) -> dict[str, Any]:
    """Seconds of each repetition, after one that compiles and one that warms up."""
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
        "set_up": start - begin - first,
        "first": first,
        "compile": first - float(np.median(seconds)),
        "peak_bytes": peak(),
    }


def once(side: Side) -> dict[str, Any]:
    """Seconds of the only run, compilation included."""
    start = time.perf_counter()
    side.run()
    seconds = time.perf_counter() - start
    return {"seconds": [seconds], "median": seconds, "compile": 0.0, "peak_bytes": peak()}


def peak() -> int:
    """Bytes of memory that the process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(name: str, side: Side, folder: Path) -> dict[str, float]:
    """Ours are written down; theirs must be equal. Returns the difference of each array."""
    found = side.outputs()
    if name == "ours":
        save(folder / "given.npz", side.given)
        save(folder / "outputs.npz", found)
        return {}
    return differences(side.translate(load(folder / "outputs.npz")), found)


def differences(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Of each array that theirs has: the largest difference over the largest entry.

    Integers must be equal. Arrays called "...~" are estimates, drawn at random: their means may differ by five standard
    errors, and the difference is given in those.

    Raises:
        SystemExit: where one is too large.
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
            apart[name], most = float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-12)), TOLERANCE
        if not apart[name] <= most:
            raise SystemExit(f"{name}: ours and theirs differ by {apart[name]:.3g}, more than {most:.3g}")
    return apart


if __name__ == "__main__":
    main()
