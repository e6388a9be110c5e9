"""Tables of the memory and cost of compiled programs: one column per program, then computation and communication."""

from collections.abc import Sequence
from dataclasses import dataclass

from gptgan_jax.compiling.chips import Slice
from gptgan_jax.compiling.collectives import totals
from gptgan_jax.compiling.programs import Program
from gptgan_jax.compiling.roofline import Roofline, roofline
from gptgan_jax.distributed.partitioning import TENSOR


@dataclass(frozen=True)
class Outlook:
    """The programs of a run on a slice.

    Attributes:
        chips: the slice.
        mesh: its axes by size.
        programs: each step and the sampler.
    """

    chips: Slice
    mesh: dict[str, int]
    programs: tuple[Program, ...]

    def roofline(self, program: Program) -> Roofline:
        """The times of one of the programs."""
        return roofline(program, self.chips, self.mesh[TENSOR])

    @property
    def misfits(self) -> list[str]:
        """One line for each program that does not fit."""
        lines = []
        for program in self.programs:
            if program.memory is None:
                lines.append(f"{program.name}: {program.too_large}")
            elif program.memory.total > self.chips.chip.usable:
                allowed = _gib(self.chips.chip.usable)
                lines.append(f"{program.name}: it needs {_gib(program.memory.total)} of {allowed} on each device")
        return lines


def heading(chips: Slice, mesh: dict[str, int]) -> str:
    """The slice and its figures."""
    chip = chips.chip
    axes = " x ".join(f"{name} {size}" for name, size in mesh.items())
    unit = "chips" if chip.cores == 1 else f"devices, {chip.cores} a chip,"
    apart = f", {chip.network_bandwidth / 1e9:g} GB/s to other slices" if chips.count > 1 else ""
    unit += f" in {chips.count} slices" if chips.count > 1 else ""
    return (
        f"{chips.name}: {len(chips.devices)} {chip.name} {unit} as {axes}; "
        f"each {chip.peak / 1e12:.0f} TFLOP/s bfloat16, {chip.hbm / 2**30:.0f} GiB HBM "
        f"at {chip.hbm_bandwidth / 1e9:.0f} GB/s, {chip.ici_bandwidth / 1e9:.0f} GB/s out to other chips{apart}"
    )


def outlook_table(outlook: Outlook) -> str:
    """All figures of the programs on a slice."""
    programs = [program for program in outlook.programs if program.memory is not None]
    memories = [program.memory for program in programs if program.memory is not None]
    times = [outlook.roofline(program) for program in programs]
    rows = [("on each device", [program.name for program in programs])]
    rows += [(name, [_gib(getattr(memory, pick)) for memory in memories]) for name, pick in _MEMORY_ROWS]
    usable = outlook.chips.chip.usable
    rows.append(("HBM allows", [_gib(usable)] * len(programs)))
    rows.append(("left", [_gib(usable - memory.total) for memory in memories]))
    rows.append(("model TFLOP", [_tera(time.model_flops) for time in times]))
    rows.append(("performed TFLOP", [_tera(time.performed_flops) for time in times]))
    rows.append(("collectives", [f"{sum(one.times for one in program.collectives):,}" for program in programs]))
    rows.append(("their bytes", [_gib(sum(one.total for one in program.collectives)) for program in programs]))
    rows.append(("compute", [_seconds(time.compute) for time in times]))
    rows.append(("HBM", [_seconds(time.memory) for time in times]))
    rows.append(("communication", [_seconds(time.communication) for time in times]))
    rows.append(("step, all overlapped", [_seconds(time.overlapped) for time in times]))
    rows.append(("step, in turn", [_seconds(time.in_turn) for time in times]))
    rows.append(("share of communication", [f"{time.communication_share:.0%}" for time in times]))
    return "\n".join([heading(outlook.chips, outlook.mesh), "", *_aligned(rows), "", *_details(programs)])


def scaling_table(outlooks: Sequence[Outlook]) -> str:
    """Predicted step time and share of communication for several slices, as Markdown."""
    names = [program.name for program in outlooks[0].programs]
    rows = [["slice", "chips", "mesh", *names], ["---"] * (3 + len(names))]
    for outlook in outlooks:
        mesh = " x ".join(f"{name} {size}" for name, size in outlook.mesh.items() if size > 1) or "one device"
        row = [outlook.chips.name, str(len(outlook.chips.devices)), mesh]
        bad = {line.partition(":")[0] for line in outlook.misfits}
        for program in outlook.programs:
            if program.name in bad:
                row.append("does not fit")
                continue
            time = outlook.roofline(program)
            row.append(f"{_seconds(time.overlapped)} to {_seconds(time.in_turn)}, {time.communication_share:.0%}")
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


_MEMORY_ROWS = (
    ("parameters", "parameters"),
    ("optimizer", "optimizer"),
    ("batch and the rest", "other"),
    ("waiting beside it", "waiting"),
    ("temporaries", "temporaries"),
    ("  of it activations, <=", "activations"),
    ("outputs", "outputs"),
    ("program", "code"),
    ("total", "total"),
)


def _details(programs: Sequence[Program]) -> list[str]:
    lines = []
    for program in programs:
        whole = sum(work.performed for work in program.parts.values()) or 1.0
        parts = ", ".join(f"{name} {work.performed / whole:.0%}" for name, work in program.parts.items())
        lines.append(f"{program.name} computes: {parts}")
        kinds = totals(list(program.collectives))
        sent = ", ".join(f"{kind} {_gib(size)} in {count:,}" for kind, (count, size) in kinds.items())
        total = sum(one.total for one in program.collectives) or 1.0
        sampling = sum(one.total for one in program.collectives if one.open_ended) / total
        loop = f"; {sampling:.0%} of it while sampling" if sampling else ""
        lines.append(f"{program.name} sends: {sent or 'nothing'}{loop}")
    return lines


def _aligned(rows: list[tuple[str, list[str]]]) -> list[str]:
    first = max(len(name) for name, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells) + 2 if rows[0][1] else 0
    return [f"{name:<{first}}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows]


def _gib(size: float) -> str:
    if abs(size) >= 2**30:
        return f"{size / 2**30:,.2f} GiB"
    return f"{size / 2**20:,.1f} MiB" if abs(size) >= 2**20 / 10 else f"{size / 2**10:,.1f} KiB"


def _tera(flops: float) -> str:
    return f"{flops / 1e12:,.3g}"


def _seconds(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
