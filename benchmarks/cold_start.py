"""Time from the command to the first step of training, without and with the cache of compiled programs.

    python benchmarks/cold_start.py --rounds 3

Each round trains the quickstart twice in fresh processes: with an empty cache, and with that of the first run. The time
ends when the step's metrics are in the run folder; then the run is stopped.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
LIMIT = 120.0
TARGET = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    without, warm = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            without.append(first_step(options.config, Path(folder), "first"))
            warm.append(first_step(options.config, Path(folder), "second"))
    print(f"| command to first step, {options.config} | median | least to most | wanted |\n|---|---:|---:|---:|")
    for name, seconds, wanted in (("empty cache", without, "–"), ("warm cache", warm, f"≤ {TARGET:g} s")):
        print(f"| {name} | {median(seconds):.1f} s | {min(seconds):.1f} to {max(seconds):.1f} s | {wanted} |")


def first_step(config: str, folder: Path, name: str) -> float:
    """Seconds until the first step of a run is recorded."""
    metrics = folder / name / "metrics.jsonl"
    keys = {"runs_folder": folder, "name": name, "evaluation.log_every": 1}
    arguments = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    begin = time.perf_counter()
    run = subprocess.Popen(
        [sys.executable, "train.py", config, *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (metrics.exists() and metrics.stat().st_size):
            if run.poll() is not None:
                raise SystemExit(f"cold_start: the run ended before its first step:\n{run.communicate()[1][-2000:]}")
            if time.perf_counter() - begin > LIMIT:
                raise SystemExit(f"cold_start: no step within {LIMIT:g} s")
            time.sleep(0.01)
        return time.perf_counter() - begin
    finally:
        run.kill()
        run.communicate()


if __name__ == "__main__":
    main()
