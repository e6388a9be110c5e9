"""Ours and the rival's, case by case: compared, then timed in fresh processes, one after the other.

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
# Both in memory of large pages, as train.py and the Makefile have it; another choice of the user's holds here too.
ENVIRONMENT = {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")}
# PyTorch's idle threads spin beside whatever comes next, and its allocator gives memory back to the system each time.
RIVAL_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
    # Its process knows our configurations, and must not take the accelerator's memory for JAX.
    "JAX_PLATFORMS": "cpu",
}
RATES = ("matmul_rate", "bfloat16_rate", "bandwidth", "cache_bandwidth")
SLOWER = 0.9
"""A ratio below this share of the baseline's is called slower: less is the machine's noise."""


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
    # A machine that others share is not always as fast; what it could do at best in this run is the limit.
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
    """Outputs compared, the rival's settings tried, then rounds of ours and its best; or our step compiled alone."""
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
    for module in sorted(missing) if of_transformers else ():
        say(f"  no {module}: pip install {module}; ours alone is timed")
        return []
    return settings_on(case, backend)


def runs(line: str) -> bool:
    """Whether a line of Python runs here, in a process of its own."""
    return subprocess.run([sys.executable, "-c", line], capture_output=True, check=False).returncode == 0


def child(
    side: str, name: str, mode: str, folder: Path, settings: dict[str, Any], seconds: float | None = None
) -> dict[str, Any]:
    """A side in a process of its own; what it prints. See `run_python`."""
    environment = RIVAL_ENVIRONMENT if side == "theirs" else {}
    if "threads" in settings:
        # Beside ours on a CPU, whatever GPU there may be besides.
        environment = environment | {"OMP_NUM_THREADS": str(settings["threads"]), "CUDA_VISIBLE_DEVICES": ""}
    arguments = side, name, mode, str(folder), json.dumps(settings)
    return json.loads(run_python("benchmarks.child", *arguments, environment=environment, seconds=seconds))


def run_python(
    module: str, *arguments: str, environment: dict[str, str] | None = None, seconds: float | None = None
) -> str:
    """The last line that a module prints, in a process of its own.

    Raises:
        SystemExit: it failed, and what it said.
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
    """What got slower beside the rival, one line a case. Ratios alone: absolute times are the machine's."""
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
    parser.add_argument("--seconds", type=float, default=8.0, help="that a process repeats its work")
    parser.add_argument("--out", type=Path, help="JSON file; other cases in it stay")
    parser.add_argument("--ours-alone", action="store_true", help="without the rival")
    settings = sorted({in_words(one) for case in CASES.values() for one in case.rivals})
    parser.add_argument(
        "--rival", choices=settings, metavar="SETTING", help=f"this one alone, untried: {'; '.join(settings)}"
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
