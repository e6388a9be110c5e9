"""Groups runs by configuration: which of them repeat one experiment, and the name of each experiment."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.config import CheckpointConfig, Config, RecordsConfig
from gptgan_jax.config.structure import difference
from gptgan_jax.data.corpora import counted
from gptgan_jax.evaluation.results import Sweep
from gptgan_jax.reports.run import ReportedRun
from gptgan_jax.runs.held_out import held_out_digest

# Keys in which runs may differ and still be repeats of one experiment.
FREE: dict[str, Any] = {
    "name": "",
    "seed": 0,
    "runs_folder": "runs",
    "records": RecordsConfig(),
    "checkpoints": CheckpointConfig(),
}
CONTROLS: dict[str, tuple[Any, ...]] = {
    "objective.reward": ("constant", "random"),
    "adversarial.freeze_discriminator": (True,),
}
LABEL_PARTS, LABEL_VALUE = 3, 40


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, except for the keys in `FREE`, on one text: its seeds.

    Attributes:
        label: how its configuration differs from the group called "base"; says if it is a control.
        config: with the free keys at their defaults.
        runs: at least one.
        text: the digest of their held-out text; None if it is not known.
    """

    label: str
    config: Config
    runs: tuple[ReportedRun, ...]
    text: str | None = None

    def sweeps(self, once: bool = False) -> list[Sweep]:
        """The sweeps of its runs that were measured in the same way as the first.

        With `once`, the cells of a baseline that several runs copied from one run are in the first of their sweeps.
        """
        made = [(run, run.evaluation.sweep) for run in self.runs if run.evaluation.sweep is not None]
        kept = [(run, sweep) for run, sweep in made if measured_with(sweep) == measured_with(made[0][1])]
        if not once:
            return [sweep for _, sweep in kept]
        seen: set[tuple[str, str, str]] = set()
        found = []
        for run, sweep in kept:
            own = {(name, *source_of(run, name)) for name in {cell.column for cell in sweep.cells}}
            new = {name for name, *_ in own - seen}
            seen |= own
            found.append(dataclasses.replace(sweep, cells=[cell for cell in sweep.cells if cell.column in new]))
        return found

    def shared(self, column: str) -> str:
        """That several runs have this column from fewer runs, in words; empty if each has its own."""
        sources = [
            source_of(run, column) for run in self.runs if column in [one.name for one in run.evaluation.columns]
        ]
        fewer = len(set(sources))
        return "" if fewer == len(sources) else f"{column} is {counted(fewer, 'run')}, shared by {len(sources)}"


def source_of(run: ReportedRun, column: str) -> tuple[str, str]:
    """Whose figures a column of a run has: the folder of the run, and the checkpoint if they are copied from there."""
    copied = (one for one in run.evaluation.columns if one.name == column and one.run)
    return next(((one.run, one.checkpoint) for one in copied), (str(run.folder), ""))


def measured_with(sweep: Sweep) -> tuple[Any, ...]:
    """What sweeps must have in common to be averaged or compared."""
    return sweep.axes, sweep.combined, sweep.signatures


def groups_of(runs: Sequence[ReportedRun]) -> list[Group]:
    """The runs by configuration and text, in order of appearance; a folder given twice counts once.

    "base" is the group that differs least from all others (the first of equals), and a control only if all groups are.
    Runs of one configuration are no repeats if their text differs, as when a file was edited between them. A run whose
    text is not known counts to the first that is configured alike.
    """
    texts = [held_out_digest(run.folder) for run in runs]
    known: dict[tuple[Any, Any], str] = {}
    for run, text in zip(runs, texts, strict=True):
        if text is not None:
            known.setdefault((run.config.data, run.config.tokenizer), text)
    found: dict[tuple[Config, str | None], dict[Path, ReportedRun]] = {}
    for run, text in zip(runs, texts, strict=True):
        key = without_free(run.config), text or known.get((run.config.data, run.config.tokenizer))
        found.setdefault(key, {}).setdefault(run.folder.resolve(), run)
    configs = [config for config, _ in found]
    candidates = [config for config in configs if not controls_of(config)] or configs
    base = min(candidates, key=lambda one: sum(len(difference(one, other)) for other in configs))
    labels = [_label(base, config) for config in configs]
    numbered = [
        f"{label} ({labels[:i].count(label) + 1})" if labels.count(label) > 1 else label
        for i, label in enumerate(labels)
    ]
    return [
        Group(label, config, tuple(of.values()), text)
        for label, ((config, text), of) in zip(numbered, found.items(), strict=True)
    ]


def without_free(config: Config) -> Config:
    """The configuration with the free keys at their defaults, and init_from without the seed in its name."""
    start = config.init_from and config.init_from.removesuffix(f"-seed{config.seed}")
    return dataclasses.replace(config, **FREE, init_from=start)


def controls_of(config: Config) -> list[str]:
    """The keys that make a configuration a control."""
    return [key for key, values in CONTROLS.items() if _value(config, key) in values]


def _value(config: Config, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)


def _label(base: Config, config: Config) -> str:
    changes = _changes(base, config)
    # All keys of a section of another kind differ, so only the kind is named.
    kinds = {key.removesuffix("kind") for key in changes if key.endswith(".kind")}
    own = [key for key in changes if key.endswith(".kind") or not key.startswith(tuple(kinds))]
    controls = controls_of(config)
    parts = [f"{key}: {_shown(_value(config, key))}" for key in dict.fromkeys([*controls, *own])]
    more = [f"{len(parts) - LABEL_PARTS} more"] if len(parts) > LABEL_PARTS else []
    return ("control: " if controls else "") + (", ".join([*parts[:LABEL_PARTS], *more]) or "base")


def _changes(old: Config, new: Config) -> list[str]:
    """The keys that differ and that the new configuration has."""
    lines = [line.partition(": ") for line in difference(old, new)]
    return [key for key, _, values in lines if not values.endswith("-> absent")]


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= LABEL_VALUE else "…" + text[1 - LABEL_VALUE :]
