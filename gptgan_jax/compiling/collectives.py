"""The communication between devices of a compiled program, read from its text.

The text is XLA's (HLO), after partitioning and scheduling: `compiled.as_text()`. A collective in a loop counts once per
iteration. The bytes are those that one device sends in bandwidth-optimal algorithms: (n - 1)/n of the whole for a
gather or a scatter among n devices, twice that for an all-reduce.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BETWEEN_SLICES = "between slices"


@dataclass(frozen=True)
class Collective:
    """One operation of the program.

    Attributes:
        kind: all-gather, all-reduce, reduce-scatter, all-to-all, collective-permute, or `BETWEEN_SLICES`.
        sent: bytes that one device sends each time.
        times: the number of times that it runs.
        groups: device numbers, int [G, n]; the devices of a row communicate with each other. Pairs for a
            collective-permute.
        open_ended: whether it is in a loop whose end depends on the data, so that `times` is an upper bound.
    """

    kind: str
    sent: float
    times: int
    groups: np.ndarray
    open_ended: bool

    @property
    def total(self) -> float:
        """Bytes that one device sends in the whole program."""
        return self.sent * self.times


def collectives_of(text: str, devices: int, open_ended_trips: int) -> list[Collective]:
    """The collectives of a compiled program that send data to another device.

    Args:
        text: of the program.
        devices: the number of devices of one slice.
        open_ended_trips: the most iterations of a loop whose end depends on the data, unless its name gives them.
    """
    program = _read(text)
    started = {_channel(line) for lines in program.bodies.values() if _starts(lines) for line in lines} - {None}
    found = []
    for name, visits in _visits(program, open_ended_trips).items():
        lines = program.bodies[name]
        # An asynchronous collective appears in the text at its start, at its end, and in between.
        begins = _starts(lines)
        for line in lines:
            apart = _sent_to_other_slices(line)
            found += [Collective(BETWEEN_SLICES, apart, v.times, _ALL, v.open_ended) for v in visits if apart]
            kind = _kind(line)
            if kind is None or (_channel(line) in started and not begins):
                continue
            groups = _groups(line, devices, kind)
            if groups.shape[1] < 2:
                continue
            # XLA for TPUs turns a reduce-scatter into an all-reduce followed by a slice.
            scattered = kind == "all-reduce" and name.startswith("all-reduce-scatter")
            sent = _sent("reduce-scatter" if scattered else kind, line, groups.shape[1], scattered)
            for visit in visits:
                kept_kind = "reduce-scatter" if scattered else kind
                found.append(Collective(kept_kind, sent, visit.times, groups, visit.open_ended))
    return found


def totals(collectives: list[Collective]) -> dict[str, tuple[int, float]]:
    """By kind: the number that run, and the bytes that a device sends in them."""
    counts: dict[str, int] = defaultdict(int)
    sent: dict[str, float] = defaultdict(float)
    for collective in collectives:
        counts[collective.kind] += collective.times
        sent[collective.kind] += collective.total
    return {kind: (counts[kind], sent[kind]) for kind in sorted(sent, key=lambda kind: -sent[kind])}


# ---- the program: computations, and the number of times that each runs


class _Program(NamedTuple):
    entry: str
    bodies: dict[str, list[str]]  # the instructions of each computation


class _Visit(NamedTuple):
    times: int
    open_ended: bool


_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation|called_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_NAMED_TRIPS = re.compile(r"\bat_most_(\d+)_times/while")  # `sampling.at_most`
_WHILE = re.compile(r"condition=%?([\w.\-]+), body=%?([\w.\-]+)")


def _read(text: str) -> _Program:
    bodies: dict[str, list[str]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = bodies.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line.strip())
    return _Program(entry, bodies)


def _visits(program: _Program, open_ended_trips: int) -> dict[str, list[_Visit]]:
    """For each computation: its call sites and their counts. Branches count as if all were taken."""
    visits: dict[str, list[_Visit]] = defaultdict(list)
    pending = [(program.entry, _Visit(1, False))]
    while pending:
        name, visit = pending.pop()
        if name not in program.bodies:
            continue
        visits[name].append(visit)
        for line in program.bodies[name]:
            for called, trips in _calls(program, line):
                if trips is None:
                    named = _NAMED_TRIPS.search(line)
                    most = int(named[1]) if named else open_ended_trips
                    pending.append((called, _Visit(visit.times * most, True)))
                else:
                    pending.append((called, _Visit(visit.times * trips, visit.open_ended)))
    return visits


def _calls(program: _Program, line: str) -> Iterator[tuple[str, int | None]]:
    """The computations that an instruction runs, and their counts; None if these depend on the data."""
    loop = _WHILE.search(line)
    if loop and " while(" in line:
        trips = _trips(program, line, loop[1], loop[2])
        yield loop[2], trips
        yield loop[1], trips  # once more, for the last check
        return
    if _kind(line) is not None:
        return  # it only applies a sum of two numbers
    for found in _CALLED.finditer(line):
        yield found[1], 1
    for found in _BRANCHES.finditer(line):
        for name in found[1].split(","):
            yield name.strip().lstrip("%"), 1


def _trips(program: _Program, line: str, condition: str, body: str) -> int | None:
    """The trip count of a loop; None if its condition is more than a counter below a constant."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
    if known:
        return int(known[1])
    lines = program.bodies.get(condition, [])
    root = next((text for text in lines if text.startswith("ROOT ")), "")
    compared = re.search(r" compare\((.*?)\), direction=LT", root)
    if compared is None:
        return None
    names = re.findall(r"%([\w.\-]+)", compared[1])
    limits = [_constant(lines, name) for name in names]
    if len(limits) != 2 or limits[1] is None:
        return None
    index = re.search(rf"^%{re.escape(names[0])} = .*get-tuple-element\(.*index=(\d+)", "\n".join(lines), re.M)
    step = 1 if index is None else _step(program.bodies.get(body, []), int(index[1]))
    return -(-limits[1] // step)


def _step(body: list[str], index: int) -> int:
    """The increment of a loop's counter if it can be read; else 1."""
    root = next((text for text in body if text.startswith("ROOT ")), "")
    returned = re.search(r" tuple\((.*?)\)(?:,|$)", re.sub(r"/\*.*?\*/", "", root))
    names = re.findall(r"%([\w.\-]+)", returned[1]) if returned else []
    if index >= len(names):
        return 1
    added = re.search(rf"^%{re.escape(names[index])} = \S+ add\((.*?)\)", "\n".join(body), re.M)
    steps = [_constant(body, name) for name in re.findall(r"%([\w.\-]+)", added[1])] if added else []
    return next((step for step in steps if step), 1)


def _constant(lines: list[str], name: str) -> int | None:
    for line in lines:
        found = re.match(rf"(?:ROOT )?%{re.escape(name)} = [su](?:8|16|32|64)\[\]\S* constant\((-?\d+)\)", line)
        if found:
            return int(found[1])
    return None


# ---- one collective


_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_OPERATION = re.compile(rf"^(?:ROOT )?%[\w.\-]+ = (.*?) ({'|'.join(_KINDS)})(-start)?\(")
_SHAPE = re.compile(r"\b(pred|[sufc]\d+|bf16|f8\w+)\[([\d,]*)\]")


def _kind(line: str) -> str | None:
    found = _OPERATION.match(line)
    return found[2] if found else None


def _channel(line: str) -> tuple[str, str] | None:
    kind, channel = _kind(line), re.search(r"channel_id=(\d+)", line)
    return None if kind is None or channel is None else (kind, channel[1])


def _starts(lines: list[str]) -> bool:
    return any('custom_call_target="AsyncCollectiveStart"' in line for line in lines)


def _sent(kind: str, line: str, size: int, scattered: bool) -> float:
    """Bytes that one device sends, from the shape of the result among `size` devices."""
    found = _OPERATION.match(line)
    assert found is not None
    sizes = [_bytes(shape) for shape in _SHAPE.finditer(found[1])]
    if found[3] and kind in ("all-gather", "collective-permute"):
        # (operand, result, ...) of an asynchronous start
        result = max(sizes) if kind == "all-gather" else sizes[0]
    else:
        result = sum(sizes)
    if kind == "collective-permute":
        return result
    if kind == "all-reduce":
        return 2 * result * (size - 1) / size
    if kind == "reduce-scatter" and not scattered:
        return result * (size - 1)  # the result is one device's part
    return result * (size - 1) / size


_ALL = np.zeros((1, 1), int)
_TARGET = re.compile(r'_xla_megascale_target="\{([\d,:]+)\}')


def _sent_to_other_slices(line: str) -> float:
    """Bytes that a device sends to other slices: XLA passes them to its host, after a sum within the slice.

    An all-reduce among n slices sends 2 (n - 1)/n of the buffer; any other transfer counts as the whole buffer.
    """
    target = _TARGET.search(line)
    if target is None or " send(" not in line:
        return 0.0
    shape = _SHAPE.search(line)
    assert shape is not None
    ends = [[int(end) for end in part.split(":")] for part in target[1].split(",")]
    slices = sum(part[-1] - part[0] + 1 for part in ends)
    share = 2 * (slices - 1) / slices if '_transfer_type="ALL_REDUCE"' in line else 1.0
    return share * _bytes(shape)


def _bytes(shape: re.Match[str]) -> float:
    kind = shape[1]
    bits = 8 if kind == "pred" else int(re.findall(r"\d+", kind)[0])
    return math.prod(int(size) for size in shape[2].split(",") if size) * bits / 8


def _groups(line: str, devices: int, kind: str) -> np.ndarray:
    """The groups of devices that communicate with each other: int [G, n]."""
    if kind == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{\{(.*?)\}\}", line)
        rows = [[int(x) for x in pair.split(",")] for pair in pairs[1].split("},{")] if pairs else []
        rows = [row for row in rows if row[0] != row[1]]
        return np.array(rows) if rows else np.zeros((1, 1), int)
    listed = re.search(r"replica_groups=\{\{(.*?)\}\}", line)
    if listed:
        return np.array([[int(x) for x in row.split(",")] for row in listed[1].split("},{")])
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
    if iota:
        order = np.arange(devices).reshape(_integers(iota[2]))
        order = order.transpose(_integers(iota[3])) if iota[3] else order
        return order.reshape(_integers(iota[1]))
    mesh = re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\S+)? \{(.*?)\}", line)
    if mesh:
        return _mesh_groups(mesh[1], mesh[2], devices)
    return np.arange(devices)[None]


def _mesh_groups(mesh: str, axes: str, devices: int) -> np.ndarray:
    """Groups along axes, or along parts of axes ('name':(before)size), of a mesh ('name'=size, ...)."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    used = {name: (before, size) for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes)}
    split: list[int] = []
    along: list[int] = []
    for name, size in sizes.items():
        if name not in used:
            split.append(size)
            continue
        before, part = used[name]
        outer, inner = (int(before), int(part)) if part else (1, size)
        along.append(len(split) + 1)
        split += [outer, inner, size // outer // inner]
    order = np.arange(devices).reshape(split)
    rest = [axis for axis in range(len(split)) if axis not in along]
    return order.transpose([*rest, *along]).reshape(-1, math.prod(split[axis] for axis in along))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(x) for x in text.split(","))
