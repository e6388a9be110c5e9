"""Each case on our side and on the rival's: outputs compared, then both timed in fresh processes in turn.

python -m benchmarks                                  # every case; make bench
python -m benchmarks --cases likelihood sampling --rounds 5
python -m benchmarks --check                          # ratios against those of benchmarks/baseline.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Compiled, Result, Timing, read_ratios, table, write
from benchmarks.sides import CASES, MODEL, Case, settings_on
from benchmarks.work import limit_of

ROOT = Path(__file__).parents[1]
BASELINE = Path(__file__).parent / "baseline.json"
# Both sides use huge pages, as in train.py and the Makefile, unless the user has set GLIBC_TUNABLES.
ENVIRONMENT = {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")}
# By default PyTorch's idle threads spin during the next operation, and its allocator returns memory to the system.
RIVAL_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
    # Its process imports JAX for our configurations, and JAX must not allocate the accelerator's memory.
    "JAX_PLATFORMS": "cpu",
}
RATES = ("matmul_rate", "bfloat16_rate", "bandwidth", "cache_bandwidth")
SLOWER = 0.9
"""A ratio below this share of the baseline's counts as slower; smaller differences are noise."""


def main() -> None:
    options = parse_options()
    machine = json.loads(run_python("benchmarks.machine"))
    say(f"{machine['hardware']}: {machine['matmul_rate'] / 1e9:.0f} GFLOP/s, {machine['bandwidth'] / 1e9:.1f} GB/s")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            if CASES[name].of_model and not MODEL.is_dir():
                say(f"  {name}: no model in {MODEL}; make smollm makes it, or name its folder in SMOLLM")
                continue
            place = Path(folder) / name
            place.mkdir()
            results.append(measure(name, CASES[name], place, machine, options))
            say(table(results[-1:]).splitlines()[-1])
            if options.out:
                write(options.out, machine, results)
    # The speed of a shared machine varies; its best in this run is the limit.
    again = json.loads(run_python("benchmarks.machine"))
    machine |= {name: max(machine[name], again[name]) for name in RATES if machine[name]}
    results = [replace(one, limit=one.limit and limit_of(one.case, machine)) for one in results]
    if options.out:
        write(options.out, machine, results)
    print(table(results))
    print(f"\n{describe(machine)}")
    if options.check:
        print("\n" + compared(read_ratios(BASELINE), results))


def measure(name: str, case: Case, folder: Path, machine: dict[str, Any], options: argparse.Namespace) -> Result:
    """Compares outputs, tries the rival's settings, and times ours and its best in turn; or only compiles our step."""
    stated: dict[str, Any] = {"case": name, "letter": case.letter, "title": case.title, "target": case.target}
    limit = None if case.once or case.of_model else limit_of(name, machine)
    if case.only_compiled(machine["backend"]):
        return Result(**stated, ours=Compiled(**child("ours", name, "compile", folder, {})), limit=limit)
    child("ours", name, "outputs", folder, {})
    tried: dict[str, float] = {}
    apart = 0.0
    rivals = [] if options.ours_alone else available(case, machine["backend"])
    rivals = [one for one in rivals if options.rival in (None, in_words(one))]
    for settings in rivals:
        apart = max(
            apart, *(d for array, d in child("theirs", name, "outputs", folder, settings).items() if "~" not in array)
        )
        if len(rivals) == 1:
            break
        timing = child("theirs", name, "time", folder, settings | {"seconds": options.seconds / 2})
        tried[in_words(settings)] = timing["median"]
        say(f"  {name}: {in_words(settings)}: {timing['median']:.3f} s")
    best = min(rivals, key=lambda settings: tried.get(in_words(settings), 0.0), default=None)
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(child("ours", name, "time", folder, {"seconds": options.seconds}))
        if best is not None:
            theirs.append(child("theirs", name, "time", folder, best | {"seconds": options.seconds}))
    return Result(
        **stated,
        ours=gathered(ours),
        theirs=gathered(theirs) if theirs else None,
        settings=in_words(best) if best else "",
        ratios=tuple(b["median"] / a["median"] for a, b in zip(ours, theirs, strict=False)),
        tried=tried,
        apart=apart if rivals else None,
        limit=limit,
    )


def available(case: Case, backend: str) -> list[dict[str, Any]]:
    """The rival's settings that can run here, on the same kind of device as ours."""
    missing = {module for module in ("torch", "transformers", "peft") if not runs(f"import {module}")}
    if backend == "gpu" and "torch" not in missing and not runs("import torch; torch.zeros(1, device='cuda')"):
        say("  PyTorch finds no CUDA device; ours alone is timed")
        return []
    if "torch" in missing:
        say("  no PyTorch: pip install torch==2.13.0; ours alone is timed")
        return []
    of_transformers = case.of_model or any(settings["mode"] == "generate" for settings in case.rivals)
    needed = {"transformers"} if of_transformers else set()
    if case.of_model and case.phase == "likelihood":
        needed.add("peft")  # trains the adapters
    for module in sorted(missing & needed):
        say(f"  no {module}: pip install {module}; ours alone is timed")
        return []
    return settings_on(case, backend)


def runs(line: str) -> bool:
    """Whether a line of Python runs without error in a process of its own."""
    return subprocess.run([sys.executable, "-c", line], capture_output=True, check=False).returncode == 0


def child(
    side: str, name: str, mode: str, folder: Path, settings: dict[str, Any], seconds: float | None = None
) -> dict[str, Any]:
    """Runs a side in a process of its own, and returns its output. See `run_python`."""
    environment = RIVAL_ENVIRONMENT if side == "theirs" else {}
    if "threads" in settings:
        # Compared with ours on a CPU, even if there is a GPU.
        environment = environment | {"OMP_NUM_THREADS": str(settings["threads"]), "CUDA_VISIBLE_DEVICES": ""}
    arguments = side, name, mode, str(folder), json.dumps(settings)
    return json.loads(run_python("benchmarks.child", *arguments, environment=environment, seconds=seconds))


def run_python(
    module: str, *arguments: str, environment: dict[str, str] | None = None, seconds: float | None = None
) -> str:
    """Runs a module in a process of its own, and returns the last line that it prints.

    Raises:
        SystemExit: it failed; with its output.
        subprocess.TimeoutExpired: it took longer than `seconds`.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if done.returncode:
        raise SystemExit(f"benchmarks: {module} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def gathered(timings: Sequence[dict[str, Any]]) -> Timing:
    return Timing(
        medians=tuple(one["median"] for one in timings),
        seconds=tuple(second for one in timings for second in one["seconds"]),
        compile=median(one["compile"] for one in timings),
        peak_bytes=max(one["peak_bytes"] for one in timings),
    )


def in_words(settings: dict[str, Any]) -> str:
    words = []
    for key, value in settings.items():
        words.append(f"{value} thread{'s' if value > 1 else ''}" if key == "threads" else str(value))
    return ", ".join(words)


def compared(baseline: dict[str, float], results: Sequence[Result]) -> str:
    """The cases that became slower relative to the rival, one line each. Absolute times depend on the machine."""
    lines = []
    for result in results:
        if result.ratio is None or result.case not in baseline:
            continue
        before = baseline[result.case]
        verdict = (
            "SLOWER" if result.ratio < SLOWER * before else "as before" if result.ratio < before / SLOWER else "faster"
        )
        lines.append(f"{result.case}: {result.ratio:.2f}, baseline {before:.2f}: {verdict}")
    return "\n".join(lines) or "nothing to compare: no case has a ratio here and in the baseline"


def describe(machine: dict[str, Any]) -> str:
    names = ("jax", "flax", "torch", "transformers")
    versions = ", ".join(f"{name} {machine[name]}" for name in names if machine[name])
    half = f"{machine['bfloat16_rate'] / 1e9:.0f} of bfloat16, " if machine["bfloat16_rate"] else ""
    rates = (
        f"{machine['matmul_rate'] / 1e9:.0f} GFLOP/s of float32, {half}"
        f"{machine['bandwidth'] / 1e9:.1f} GB/s of memory, "
        f"{machine['cache_bandwidth'] / 1e9:.1f} GB/s within 16 MiB"
    )
    return f"{machine['hardware']} ({machine['backend']}): {rates}; Python {machine['python']}, {versions}"


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    quick = [name for name in CASES if name != "protocol"]
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=quick, metavar="CASE", help=f"{', '.join(CASES)}; all but protocol"
    )
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each side")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a process repeats its work")
    parser.add_argument("--out", type=Path, help="JSON file; other cases in it stay")
    parser.add_argument("--ours-alone", action="store_true", help="without the rival")
    settings = sorted({in_words(one) for case in CASES.values() for one in case.rivals})
    parser.add_argument(
        "--rival", choices=settings, metavar="SETTING", help=f"use only this, without trials: {'; '.join(settings)}"
    )
    parser.add_argument("--check", action="store_true", help=f"compare ratios with {BASELINE.name}")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds should be above 0")
    return options


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
