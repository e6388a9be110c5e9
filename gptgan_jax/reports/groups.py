"""Groups runs by configuration: which of them repeat one experiment, and the name of each experiment."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.config import CheckpointConfig, Config, RecordsConfig
from gptgan_jax.config.structure import difference
from gptgan_jax.evaluation.results import Sweep
from gptgan_jax.reports.run import ReportedRun

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
    """Runs of one configuration, except for the keys in `FREE`: its seeds.

    Attributes:
        label: how its configuration differs from the group called "base"; says if it is a control.
        config: with the free keys at their defaults.
        runs: at least one.
    """

    label: str
    config: Config
    runs: tuple[ReportedRun, ...]

    def sweeps(self) -> list[Sweep]:
        """The sweeps of its runs that were measured in the same way as the first."""
        made = [run.evaluation.sweep for run in self.runs if run.evaluation.sweep is not None]
        return [one for one in made if measured_with(one) == measured_with(made[0])]


def measured_with(sweep: Sweep) -> tuple[Any, ...]:
    """What sweeps must have in common to be averaged or compared."""
    return sweep.axes, sweep.combined, sweep.signatures


def groups_of(runs: Sequence[ReportedRun]) -> list[Group]:
    """The runs by configuration, in order of appearance; a folder given twice counts once.

    "base" is the group that differs least from all others (the first of equals), and a control only if all groups are.
    """
    by_config: dict[Config, dict[Path, ReportedRun]] = {}
    for run in runs:
        by_config.setdefault(without_free(run.config), {}).setdefault(run.folder.resolve(), run)
    configs = list(by_config)
    candidates = [config for config in configs if not controls_of(config)] or configs
    base = min(candidates, key=lambda one: sum(len(difference(one, other)) for other in configs))
    labels = [_label(base, config) for config in configs]
    numbered = [
        f"{label} ({labels[:i].count(label) + 1})" if labels.count(label) > 1 else label
        for i, label in enumerate(labels)
    ]
    return [
        Group(label, config, tuple(by_config[config].values())) for label, config in zip(numbered, configs, strict=True)
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
