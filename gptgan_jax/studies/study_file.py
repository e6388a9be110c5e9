"""The file of `gptgan study FILE`: a comparison, and the cells in which it is repeated.

    compare: compare_recommended.yaml         # or base, set and arms, as in a comparison's file
    seeds: 3
    cells:
      generator.width: [8, 16, 32, 64]        # an axis: a key and its values
      discriminator:                          # or a name and its points, each of which sets several keys
        small: {discriminator.layers: 1, discriminator.width: 16}
        large: {discriminator.layers: 2, discriminator.width: 96}

The cells are all combinations of the axes' points; a list of `{name, set}` gives each cell directly. Every cell is a
separate `Comparison` in a separate folder.
"""

import dataclasses
import difflib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gptgan_jax.config import Config
from gptgan_jax.config.checking import check_seeds
from gptgan_jax.config.help import every_key
from gptgan_jax.errors import UserError
from gptgan_jax.reports.arms_table import OF_GRAMMAR, OF_ORACLE, OF_TASK, OF_TEXT
from gptgan_jax.runs.folder import RunFolder, slug_of
from gptgan_jax.schema.structure import as_plain, brief
from gptgan_jax.schema.yaml_files import check_keys, file_of, mapping_of, own_copy, read_beside, read_yaml
from gptgan_jax.workflows.comparison import KEYS as COMPARISON_KEYS
from gptgan_jax.workflows.comparison import Comparison, arguments_of, build_comparison

KEYS = ("compare", *COMPARISON_KEYS, "cells", "report")
REPORT_KEYS = ("along", "lines", "figures")
MOST_CELLS = 1000
# Keys of a run that the study itself sets.
TAKEN = ("name", "seed", "runs_folder", "init_checkpoint")
PLACES = ("name", "runs_folder", "checkpoints", "init_from")
# Sections that do not affect likelihood training: what only the phases after it read, names and places.
AFTER_LIKELIHOOD = ("name", "seed", "runs_folder", "checkpoints", "discriminator", "warmup", "adversarial", "records")
MOST_TOLD = 8
KNOWN_FIGURES = OF_GRAMMAR | OF_ORACLE | OF_TASK | OF_TEXT


class Point(NamedTuple):
    """A point on an axis.

    Attributes:
        label: its name in the report.
        slug: its part of the name of the cell's folder.
        keys: the keys that it sets.
    """

    label: str
    slug: str
    keys: Mapping[Any, Any]


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Attributes:
        name: made of its points.
        slug: the name of its folder.
        points: the label of its point on each axis.
        comparison: the cell's, in its own folder. Its likelihood runs may be in another cell's folder.
    """

    name: str
    slug: str
    points: Mapping[str, str]
    comparison: Comparison


@dataclass(frozen=True)
class ReportChoice:
    """The section `report` of FILE.

    Attributes:
        along: the axis along each picture; None: the one that affects the gains most.
        lines: the axis with a line for each point; None: the next such axis.
        figures: the columns of the table besides the gains; empty: all that the source allows.
    """

    along: str | None = None
    lines: str | None = None
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A study, as FILE describes it, checked.

    Attributes:
        file: FILE.
        folder: everything that the study saves.
        seeds: of every cell.
        axes: the labels of the points of each axis.
        cells: at least one.
        report: what its report shows.
        arguments: those after FILE on the command line.
    """

    file: Path
    folder: Path
    seeds: tuple[int, ...]
    axes: Mapping[str, tuple[str, ...]]
    cells: tuple[Cell, ...]
    report: ReportChoice = field(default_factory=ReportChoice)
    arguments: tuple[str, ...] = ()


def load_study(path: str | Path, seeds: int | None = None, overrides: Sequence[str] = ()) -> Study:
    """Reads FILE and builds the configuration of every run.

    Args:
        path: of FILE.
        seeds: their number, instead of FILE's.
        overrides: `--key.path value`, for every run; they win over FILE and the files that it names.

    Raises:
        UserError: names FILE, and the cell if there is one.
    """
    path = file_of(path)
    raw = read_yaml(path)
    check_keys(raw, KEYS, f"{path}: ")
    compared, beside = _comparison_of(raw, path)
    if "seeds" in raw:
        check_seeds(raw["seeds"], str(path))
        compared["seeds"] = raw["seeds"]
    axes, grid = _grid(raw.get("cells"), str(path))
    report = _report_of(mapping_of(raw, "report", f"{path}: "), axes, f"{path}: report: ")
    _check_overrides(overrides, [key for point in itertools.chain(*grid) for key in point.keys], path)
    cells = _with_shared_likelihood(_built(path, beside, compared, axes, grid, seeds, overrides))
    _check_different(cells, path)
    first = cells[0].comparison
    return Study(
        path, first.folder.parent, first.seeds, {axis: tuple(p.label for p in of) for axis, of in axes.items()},
        cells, report, first.arguments,
    )  # fmt: skip


def _comparison_of(raw: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], Path]:
    """The comparison that FILE names or contains, and the file to which its paths are relative."""
    inline = [key for key in ("base", "arms") if key in raw]
    if "compare" not in raw:
        if not inline:
            raise UserError(f"{path}: compare should be a comparison's file, such as compare_recommended.yaml")
        return {key: own_copy(raw[key]) for key in COMPARISON_KEYS if key in raw}, path
    if inline:
        raise UserError(f"{path}: compare names a comparison, and {inline[0]} stands beside it; drop one of them")
    compared = read_beside(path, raw["compare"], f"{path}: compare")
    file = file_of(path.parent / Path(raw["compare"]).expanduser())
    check_keys(compared, COMPARISON_KEYS, f"{path}: compare: {file}: ")
    everywhere = mapping_of(compared, "set", f"{file}: "), mapping_of(raw, "set", f"{path}: ")
    compared["set"] = {**everywhere[0], **everywhere[1]}
    return compared, file


# ---- the grid


def _grid(given: Any, where: str) -> tuple[dict[str, list[Point]], list[tuple[Point, ...]]]:
    """The axes with their points, and the points of each cell."""
    shape = "a mapping of keys to lists of values, or a list of cells, {name: small, set: {generator.width: 8}} each"
    if isinstance(given, list) and given:
        points = [_named_cell(one, f"{where}: cell {number}") for number, one in enumerate(given, 1)]
        _check_once(points, f"{where}: cells")
        return {"cell": points}, [(point,) for point in points]
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"{where}: cells should be {shape}")
    last = [str(name).rpartition(".")[2] for name in given]
    axes = {}
    for name, short in zip(map(str, given), last, strict=True):
        axes[name] = _axis(name, name if last.count(short) > 1 else short, given[name], f"{where}: cells: {name}")
    count = 1
    for points in axes.values():
        count *= len(points)
    if count > MOST_CELLS:
        raise UserError(f"{where}: cells: {count:,} cells are more than {MOST_CELLS:,}; take values out")
    return axes, list(itertools.product(*axes.values()))


def _axis(name: str, short: str, given: Any, where: str) -> list[Point]:
    if isinstance(given, Mapping):
        points = [Point(str(label), slug_of(str(label), where), _settings(keys, f"{where}: {label}"))
                  for label, keys in given.items()]  # fmt: skip
    elif isinstance(given, list):
        _check_key(name, where)
        shown = [_shown(value) for value in given]
        points = [Point(label, slug_of(f"{short}-{label}", where), {name: value})
                  for label, value in zip(shown, given, strict=True)]  # fmt: skip
    else:
        raise UserError(
            f"{where} should be a list of values of the key {name}, or a mapping of points to the keys that each sets, "
            f"not {brief(given)}"
        )
    if not points:
        raise UserError(f"{where} is an axis without a point; give it values, or take it out")
    _check_once(points, where)
    return points


def _named_cell(given: Any, where: str) -> Point:
    if not isinstance(given, Mapping) or "name" not in given:
        raise UserError(f"{where} should be a mapping with name and set, such as {{name: small, set: {{}}}}")
    check_keys(given, ("name", "set"), f"{where}: ")
    name = str(given["name"])
    return Point(name, slug_of(name, where), _settings(given.get("set"), f"{where}: set"))


def _settings(given: Any, where: str) -> Mapping[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(f"{where} should be a mapping of keys to values, such as {{generator.width: 8}}, not {given!r}")
    for key in given:
        _check_key(str(key), where)
    return given


def _check_key(key: str, where: str) -> None:
    """Raises UserError if this is no key of a config, or one that the study itself sets."""
    if key in TAKEN:
        right = "seeds says which there are" if key == "seed" else "the study gives it itself"
        raise UserError(f"{where}: {key} can't differ between cells: {right}")
    known = [one.name for one in every_key()]
    if key in known or any(one.startswith(f"{key}.") for one in known) or key.startswith("data.sources."):
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "gptgan train --help lists all"
    raise UserError(f"{where}: {key!r} is no key of a config; {hint}")


def _check_once(points: Sequence[Point], where: str) -> None:
    seen: dict[str, str] = {}
    for point in points:
        if point.slug in seen:
            other = seen[point.slug]
            alike = "is given twice" if other == point.label else f"would have the folder of {other}, {point.slug}"
            raise UserError(f"{where}: {point.label} {alike}; take it out, or rename it")
        seen[point.slug] = point.label


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace('"', "")


# ---- the cells


def _built(
    path: Path,
    beside: Path,
    compared: Mapping[str, Any],
    axes: Mapping[str, Sequence[Point]],
    grid: Sequence[Sequence[Point]],
    seeds: int | None,
    overrides: Sequence[str],
) -> list[Cell]:
    """Every cell with its comparison; a mistake is reported once, with the first cell that has it."""
    arguments = arguments_of(seeds, overrides)
    cells, mistakes, folders = [], dict[str, list[str]](), dict[str, str]()
    for points in grid:
        name = ", ".join(_cell_part(axis, point) for axis, point in zip(axes, points, strict=True))
        slug, where = "_".join(point.slug for point in points), f"{path}: cell {name}"
        if folders.setdefault(slug, name) != name:
            raise UserError(f"{where}: its folder would be {slug}, as that of cell {folders[slug]}; rename a point")
        keys: dict[Any, Any] = {}
        for point in points:
            keys |= point.keys
        try:
            made = build_comparison(compared, beside, where, path.stem, seeds, overrides, slug, keys)
        except UserError as error:
            for line in error.lines:
                mistakes.setdefault(line.removeprefix(where), []).append(where)
            continue
        labels = {axis: point.label for axis, point in zip(axes, points, strict=True)}
        cells.append(Cell(name, slug, labels, dataclasses.replace(made, file=path, cell=name, arguments=arguments)))
    if mistakes:
        told = [
            f"{of[0]}{line}" + (f" (so in {len(of) - 1} more cell{'s' * (len(of) > 2)})" if len(of) > 1 else "")
            for line, of in mistakes.items()
        ]
        more = [f"and {len(told) - MOST_TOLD} more mistakes"] if len(told) > MOST_TOLD else []
        raise UserError("\n".join([*told[:MOST_TOLD], *more]))
    return cells


def _cell_part(axis: str, point: Point) -> str:
    """A point's part of a cell's name: `width 8`, or only its label if it sets several keys."""
    return f"{axis.rpartition('.')[2]} {point.label}" if axis in point.keys else point.label


def _check_different(cells: Sequence[Cell], path: Path) -> None:
    """Raises UserError if two cells are the same experiment, for example because no run reads what differs."""
    seen: dict[str, str] = {}
    for cell in cells:
        compared = cell.comparison
        # Equal likelihood runs have the same folder by now.
        plain = [RunFolder.of(compared.base_config(0)).path.as_posix(), *(_method(arm.config) for arm in compared.arms)]
        text = json.dumps(plain, sort_keys=True)
        if text in seen:
            raise UserError(
                f"{path}: cell {cell.name} is the same experiment as cell {seen[text]}: an arm's own keys may win over "
                "the cell's; take one of them out"
            )
        seen[text] = cell.name


def _method(config: Config) -> dict[str, Any]:
    """An arm's configuration without its paths and without what it starts from."""
    return {key: value for key, value in as_plain(config).items() if key not in PLACES}


def _with_shared_likelihood(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells, where those with the same likelihood training share the runs of one of them.

    That is the first cell that already has such runs, so that a cell can be added before it later.
    """
    groups: dict[str, list[Comparison]] = {}
    for cell in cells:
        groups.setdefault(_likelihood_key(cell.comparison.base), []).append(cell.comparison)
    made = []
    for cell in cells:
        own = cell.comparison
        owner = _owner(groups[_likelihood_key(own.base)])
        theirs = {(arm.slug, _likelihood_key(arm.config)): arm for arm in owner.arms if arm.from_scratch}
        arms = [theirs.get((arm.slug, _likelihood_key(arm.config)), arm) for arm in own.arms]
        made.append(dataclasses.replace(cell, comparison=dataclasses.replace(own, base=owner.base, arms=tuple(arms))))
    return tuple(made)


def _owner(group: Sequence[Comparison]) -> Comparison:
    def begun(one: Comparison) -> bool:
        return any(os.path.exists(RunFolder.of(one.base_config(seed)).config_file) for seed in one.seeds)

    return next(filter(begun, group), group[0])


def _likelihood_key(config: Config) -> str:
    """The part of a configuration that its likelihood training and its evaluation read."""
    plain = {key: value for key, value in as_plain(config).items() if key not in AFTER_LIKELIHOOD}
    plain["objective"] = {key: plain["objective"][key] for key in ("rewards", "classification")}
    if config.steps("continued"):
        plain["continued"] |= {"batch_size": config.batch_size("continued")}
    return json.dumps(plain, sort_keys=True)


def _check_overrides(overrides: Sequence[str], axes: Sequence[Any], path: Path) -> None:
    for name in _names(overrides):
        for axis in map(str, axes):
            if axis == name or axis.startswith(f"{name}.") or name.startswith(f"{axis}."):
                raise UserError(f"--{name}: {path} has {axis} differ between its cells; change it there")


def _names(overrides: Sequence[str]) -> Iterator[str]:
    for argument in overrides:
        if argument.startswith("--"):
            yield argument[2:].partition("=")[0].replace("-", "_")


# ---- the report


def _report_of(raw: Mapping[Any, Any], axes: Mapping[str, Sequence[Point]], where: str) -> ReportChoice:
    check_keys(raw, REPORT_KEYS, where)
    for key in ("along", "lines"):
        if raw.get(key) is not None:
            check_keys({str(raw[key]): None}, tuple(axes), f"{where}{key}: ")
    if raw.get("along") is not None and raw.get("along") == raw.get("lines"):
        raise UserError(f"{where}along and lines are both {raw['along']}; give two axes")
    figures = raw.get("figures") or []
    if not isinstance(figures, list):
        raise UserError(f"{where}figures should be a list, such as [forward KL, Jensen-Shannon], not {figures!r}")
    check_keys(dict.fromkeys(map(str, figures)), tuple(KNOWN_FIGURES), f"{where}figures: ")
    return ReportChoice(raw.get("along"), raw.get("lines"), tuple(map(str, figures)))
