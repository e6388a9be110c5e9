"""The results of a cell as plain data: CELL/cell.json, from which the study's report is made."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from gptgan_jax.config import Config
from gptgan_jax.config.estimators import build_estimator
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import EVALUATION_FILE
from gptgan_jax.gradients.families import without_discriminator
from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.models.trees import parameter_count
from gptgan_jax.reports.arms import COMPARISON_FILE
from gptgan_jax.reports.arms_table import CONTINUED, LIKELIHOOD, Spread
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.trained import build_networks, example_batch, generator_shapes
from gptgan_jax.studies.study_file import Cell
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.types import Vocabulary

CELL_FILE = "cell.json"


@dataclass(frozen=True)
class Sizes:
    """Parameter counts of both players; None for a discriminator that training does not use."""

    generator: int
    discriminator: int | None


@dataclass(frozen=True)
class Row:
    """A model of a cell.

    Attributes:
        model: its name in the comparison.
        from_scratch: whether it has its own likelihood training, instead of starting from the likelihood's model.
        sizes: of its players; None if unknown because all its runs failed.
        against_likelihood, against_continued: its gain; None for the baseline itself.
        figures: metrics on test text at temperature 1, by name.
        seconds: processor seconds after the likelihood training; for a model from scratch, of all its training.
    """

    model: str
    from_scratch: bool
    sizes: Sizes | None
    against_likelihood: Spread | None
    against_continued: Spread | None
    figures: Mapping[str, Spread]
    seconds: Spread


@dataclass(frozen=True)
class CellResult:
    """The results of a cell.

    Attributes:
        name: of the cell.
        points: the labels of its points, by axis.
        seeds: those with results.
        quality: describes the gain: quality, diversity, quality_better, quality_unit and so on.
        heads: the tables' column heads of the metrics that the source allows.
        rows: the likelihood's first.
        failed: why the training of a run failed, by run.
        runs: the digest of each run's evaluation, by the run's folder.
    """

    name: str
    points: Mapping[str, str]
    seeds: tuple[int, ...]
    quality: Mapping[str, str]
    heads: Mapping[str, str]
    rows: tuple[Row, ...]
    failed: Mapping[str, str]
    runs: Mapping[str, str] = field(default_factory=dict)


def sizes_of(config: Config, vocabulary: Vocabulary, classes: tuple[str, ...] = ()) -> Sizes:
    """The parameter counts of a run's players."""
    generator, discriminator = build_networks(config, vocabulary, classes)
    trained = config.warmup.steps or config.adversarial.steps
    found = None
    if trained and not without_discriminator(build_estimator(config.objective.estimator, config.adversarial.steps)):
        batch = example_batch(config, vocabulary, False)
        found = parameter_count(jax.eval_shape(discriminator.init, jax.random.key(0), batch))
    return Sizes(parameter_count(generator_shapes(config, generator)), found)


def sizes_in(folder: RunFolder) -> Sizes:
    """The parameter counts of a run's players, from its folder only."""
    return sizes_of(folder.read_config(), folder.read_tokenizer().vocabulary, folder.read_classes())


def runs_in(folders: Mapping[str, Mapping[int, RunFolder]]) -> dict[str, str]:
    """The digest of each run's evaluation, by its folder within the study's."""
    found = {}
    for folder in (folder for of in folders.values() for folder in of.values()):
        content = (folder.path / EVALUATION_FILE).read_bytes()
        found["/".join(folder.path.parts[-2:])] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return found


def write_cell(cell: Cell, folders: Mapping[str, Mapping[int, RunFolder]], failed: Mapping[str, str]) -> None:
    """Writes CELL/cell.json; the cell's comparison must have been written before, unless there are no runs for it.

    Args:
        cell: of a study.
        folders: of its runs, by model and seed.
        failed: why the training of a run failed, by run; also of seeds whose likelihood training failed.

    Raises:
        UserError: it can't be written.
    """
    comparison = _read(cell.comparison.folder / "comparison" / COMPARISON_FILE) if folders else None
    sizes = {label: sizes_in(next(iter(of.values()))) for label, of in folders.items() if of}
    columns = {column: arm.label for arm in cell.comparison.arms for column in arm.columns}
    plain = {
        "cell": cell.name,
        "points": dict(cell.points),
        "failed": dict(failed),
        "runs": runs_in(folders),
        "sizes": {
            model["model"]: vars(sizes[label])
            for model in (comparison or {}).get("models", ())
            if (label := columns.get(model["model"], LIKELIHOOD)) in sizes
        },
        "comparison": comparison,
    }
    path = cell.comparison.folder / CELL_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{json.dumps(plain, indent=1, ensure_ascii=False)}\n".encode())
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror})") from None


def read_cell(cell: Cell) -> CellResult | None:
    """What `write_cell` wrote; None if there are no results, or those of other seeds, arms or points.

    Raises:
        UserError: the file is damaged.
    """
    path = cell.comparison.folder / CELL_FILE
    if not path.is_file():
        return None
    plain = _read(path)
    try:
        if plain["comparison"] is None:
            return None
        result = _result(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r:.80}); remove it, and the same command writes it again") from None
    baselines = (LIKELIHOOD, CONTINUED, f"{LIKELIHOOD}, best of {cell.comparison.base.evaluation.best_of}")
    arms = [column for arm in cell.comparison.arms for column in arm.columns]
    same = (
        arms == [row.model for row in result.rows if row.model not in baselines]
        and set(cell.comparison.seeds) >= set(result.seeds)
        and (result.name, result.points) == (cell.name, dict(cell.points))
    )
    return result if same else None


def failed_in(cell: Cell) -> dict[str, str]:
    """Why runs of a cell failed when its results were written, by run; empty without results."""
    path = cell.comparison.folder / CELL_FILE
    failed = _read(path).get("failed") if path.is_file() else None
    return {str(name): str(reason) for name, reason in failed.items()} if isinstance(failed, dict) else {}


def _result(plain: Mapping[str, Any]) -> CellResult:
    comparison = plain["comparison"]
    sizes = {label: Sizes(**one) for label, one in plain["sizes"].items()}
    rows = tuple(
        Row(
            model["model"],
            model["from_scratch"],
            sizes.get(model["model"]),
            _spread(model["against_likelihood"]),
            _spread(model["against_continued"]),
            {name: _known(_spread(one)) for name, one in model["at_temperature_1"].items()},
            _known(_spread(model["processor_seconds"])),
        )
        for model in comparison["models"]
    )
    return CellResult(
        plain["cell"],
        plain["points"],
        tuple(comparison["seeds"]),
        comparison["quality"],
        comparison["figures"],
        rows,
        plain["failed"],
        plain.get("runs", {}),  # files of earlier versions have none
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read ({' '.join(str(error).split())[:80]}); remove it") from None


def _spread(plain: Mapping[str, Any] | None) -> Spread | None:
    if plain is None:
        return None
    by_seed = tuple(Estimate(_number(one["value"]), _number(one["error"])) for one in plain["by_seed"])
    return Spread(_number(plain["value"]), _number(plain["error"]), by_seed)


def _known(spread: Spread | None) -> Spread:
    return Spread(None, None, ()) if spread is None else spread


def _number(value: float | str | None) -> float | None:
    """A number; infinite ones are strings, as JSON has none."""
    return None if value is None or math.isnan(float(value)) else float(value)
