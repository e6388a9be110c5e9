"""Several adversarial methods from one likelihood training, over seeds: what `gptgan compare FILE` does.

For each seed the base is trained by likelihood, and likelihood training goes on from its best as a baseline; every arm
starts its adversarial phase from that best. All are evaluated alike, and one table says what came of it.
"""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.config import MOST_SEEDS, Config
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.files import override, set_key, with_absolute_paths
from gptgan_jax.config.yaml_files import read_yaml
from gptgan_jax.errors import UserError, unknown
from gptgan_jax.evaluation.final import RESIDUAL
from gptgan_jax.reports.arms import write_arms
from gptgan_jax.reports.arms_table import CONTINUED, LIKELIHOOD, Model
from gptgan_jax.reports.groups import controls_of
from gptgan_jax.reports.run import load_reported_run
from gptgan_jax.runs.experiment import load_experiment, network_difference
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.trained import build_networks
from gptgan_jax.training.loop import check
from gptgan_jax.training.signals import NotFinite
from gptgan_jax.workflows.run import Say, is_finished, judge_run, train_run

KEYS = ("base", "seeds", "set", "arms")
ARM_KEYS = ("preset", "set")
# The sections of a method, which an arm takes from its preset. Keys of others are the same for all arms.
METHOD = ("discriminator", "objective", "warmup", "adversarial")
BASE_SLUG = "likelihood"


@dataclass(frozen=True)
class Arm:
    """One method.

    Attributes:
        name: as FILE calls it.
        slug: what its run folders are called, before the seed.
        config: of the first seed.
    """

    name: str
    slug: str
    config: Config

    @property
    def label(self) -> str:
        """What the report calls it; a control says so."""
        control = controls_of(self.config) and not self.name.lower().startswith("control")
        return f"control: {self.name}" if control else self.name

    @property
    def columns(self) -> dict[str, str]:
        """The columns of its evaluation that stand for it, by what the report calls them."""
        if not self.config.adversarial.steps:
            return {self.label: RESIDUAL}
        both = {f"{self.label}, resampling instead": RESIDUAL} if self.config.objective.residual_candidates else {}
        return {self.label: "adversarial"} | both


@dataclass(frozen=True)
class Comparison:
    """What FILE describes, checked.

    Attributes:
        file: FILE.
        folder: where the run folders lie.
        seeds: of the runs.
        base: the likelihood training and its continuation, with the first seed.
        arms: at least one.
    """

    file: Path
    folder: Path
    seeds: tuple[int, ...]
    base: Config
    arms: tuple[Arm, ...]

    def base_config(self, seed: int) -> Config:
        return dataclasses.replace(self.base, name=f"{BASE_SLUG}-seed{seed}", seed=seed)

    def arm_config(self, arm: Arm, seed: int) -> Config:
        start = os.path.abspath(RunFolder.of(self.base_config(seed)).path)
        return dataclasses.replace(arm.config, name=f"{arm.slug}-seed{seed}", seed=seed, init_from=start)


# ---- FILE


def load_comparison(path: str | Path, seeds: int | None = None, overrides: Sequence[str] = ()) -> Comparison:
    """Reads FILE and builds every run's configuration.

    Args:
        path: of FILE.
        seeds: how many, instead of FILE's number.
        overrides: `--key.path value`, for every run, over whatever FILE and the files that it names say.

    Raises:
        UserError: naming FILE and the arm where there is one.
    """
    path = Path(path)
    raw = read_yaml(path)
    _check_keys(raw, KEYS, f"{path}: ")
    if not isinstance(raw.get("base"), str):
        raise UserError(f"{path}: base should be a config file, such as oracle_lstm.yaml, not {raw.get('base')!r}")
    given, everywhere, arms = raw.get("seeds", 1), _mapping(raw, "set", f"{path}: "), _mapping(raw, "arms", f"{path}: ")
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_SEEDS:
        raise UserError(f"{path}: seeds {given!r} should be a whole number, at least 1 and at most {MOST_SEEDS}")
    if not arms:
        raise UserError(f"{path}: arms should be at least one, a line each, such as `reinforce: {{}}`")

    base_raw = _read(path, raw["base"], f"{path}: base")
    base_raw.pop("name", None)

    def built(raw_config: dict[str, Any], settings: Sequence[Mapping[str, Any]], where: str) -> Config:
        """The configuration with the keys that are set, the later over the earlier, and the command line's over all."""
        try:
            for keys in settings:
                for dotted, value in keys.items():
                    set_key(raw_config, str(dotted), value)
        except UserError as error:
            raise error.within(where) from None
        override(raw_config, overrides)
        raw_config.setdefault("name", path.stem)
        return with_absolute_paths(config_from(raw_config, where))

    whole = built(_own(base_raw), [everywhere], f"{path}: base {raw['base']}")
    base = _base_of(whole, path)
    found: dict[str, Arm] = {}
    for name, given_arm in arms.items():
        where = f"{path}: arm {name}"
        arm = _arm_parts(given_arm, where)
        slug = _slug(str(name), where)
        if slug in found:
            raise UserError(f"{where}: its folder would be {slug}, as that of arm {found[slug].name}; rename one")
        raw_config = _own(base_raw)
        if "preset" in arm:
            preset = _read(path, arm["preset"], f"{where}: preset")
            raw_config = {key: value for key, value in raw_config.items() if key not in METHOD}
            raw_config |= {key: _own(preset[key]) for key in METHOD if key in preset}
        config = built(raw_config, [everywhere, arm.get("set") or {}], where)
        made = Arm(str(name), slug, _arm_of(config, base, where))
        for label in made.columns:
            if label in [taken for other in found.values() for taken in other.columns]:
                raise UserError(f"{where}: the report would call it {label}, as another arm; rename one")
        found[slug] = made
    first = base.seed
    count = given if seeds is None else seeds
    return Comparison(path, Path(base.runs_folder), tuple(range(first, first + count)), base, tuple(found.values()))


def _base_of(whole: Config, path: Path) -> Config:
    """The base without its adversarial phase; likelihood training goes on for as long as that would be."""
    if not whole.likelihood.steps:
        raise UserError(f"{path}: base: likelihood.steps is 0, and the arms would have nothing to start from")
    sweep = whole.evaluation.sweep
    if 1.0 not in sweep.temperatures or 1.0 not in sweep.top_p:
        raise UserError(
            f"{path}: base: evaluation.sweep lacks temperature 1 or top_p 1, which the comparison reports; add them"
        )
    return dataclasses.replace(
        whole,
        runs_folder=str(Path(whole.runs_folder) / whole.name),
        checkpoints=dataclasses.replace(
            whole.checkpoints,
            folder=whole.checkpoints.folder and os.path.join(whole.checkpoints.folder, whole.name),
        ),
        continued=dataclasses.replace(whole.continued, steps=whole.steps("continued")),
        objective=dataclasses.replace(whole.objective, residual_candidates=0),
        warmup=dataclasses.replace(whole.warmup, steps=0),
        adversarial=dataclasses.replace(whole.adversarial, steps=0),
    )


def _arm_of(config: Config, base: Config, where: str) -> Config:
    """The configuration as an arm: it starts where the base's likelihood training ended."""
    if not config.adversarial.steps and not config.objective.residual_candidates:
        raise UserError(f"{where}: adversarial.steps is 0: nothing would train its generator")
    for line in network_difference(base, config):
        raise UserError(f"{where}: its generator is another network than the base's ({line}); set it for all arms")
    return dataclasses.replace(
        config,
        runs_folder=base.runs_folder,
        checkpoints=base.checkpoints,
        init_from=str(Path(base.runs_folder) / BASE_SLUG),
        init_checkpoint="likelihood",
        init_vocabulary="same",
        likelihood=dataclasses.replace(config.likelihood, steps=0),
        continued=dataclasses.replace(config.continued, steps=0),
    )


def _arm_parts(given: Any, where: str) -> dict[str, Any]:
    """What FILE says of an arm, its keys known."""
    arm = {} if given is None else given
    if not isinstance(arm, Mapping):
        raise UserError(f"{where} should be a mapping with preset, set, both or neither, not {given!r}")
    _check_keys(arm, ARM_KEYS, f"{where}: ")
    fields = {field.name for field in dataclasses.fields(Config)}
    for dotted in _mapping(arm, "set", f"{where}: "):
        section = str(dotted).partition(".")[0]
        if section in fields - {*METHOD, "generator"}:
            raise UserError(
                f"{where}: {dotted} is the same for all arms; set it beside `arms` (an arm has its own "
                f"{', '.join(METHOD)})"
            )
    return dict(arm)


def _check_keys(raw: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    for name in raw:
        if name not in known:
            raise UserError(where + unknown("key", str(name), known))


def _mapping(raw: Mapping[str, Any], key: str, where: str) -> Mapping[Any, Any]:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}{key} should be a mapping of names to values, not a {type(value).__name__}")
    return value


def _read(file: Path, name: Any, where: str) -> dict[str, Any]:
    """The config that FILE names, from FILE's own folder."""
    if not isinstance(name, str):
        raise UserError(f"{where} should be a config file, not {name!r}")
    try:
        return read_yaml(file.parent / Path(name).expanduser())
    except UserError as error:
        raise error.within(where) from None


def _own(tree: Any) -> Any:
    """A copy in which no section is another's too, as YAML's anchors make them."""
    if isinstance(tree, dict):
        return {name: _own(value) for name, value in tree.items()}
    return [_own(value) for value in tree] if isinstance(tree, list) else tree


def _slug(name: str, where: str) -> str:
    slug = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")
    if not slug:
        raise UserError(f"{where}: its name should hold a letter or a digit, as its folders are called after it")
    if slug == BASE_SLUG or name in (LIKELIHOOD, CONTINUED):
        raise UserError(f"{where}: that is what the baselines are called; choose another name")
    return slug


# ---- running


def compare(comparison: Comparison, say: Say) -> tuple[str, Path, dict[str, str]]:
    """Trains and evaluates what is not done yet, and writes the comparison.

    Returns: its table as Markdown, the path of its report, and by run why its training failed.

    Raises:
        UserError: before anything is written, where a run can't be made; see `train`.
        NotFinite: where likelihood training failed, from which nothing can start.
        Interrupted: a signal came; the same comparison goes on from there.
    """
    _check_runs(comparison)
    failed: dict[str, str] = {}
    folders: dict[str, dict[int, RunFolder]] = {}
    for seed in comparison.seeds:
        runs = {LIKELIHOOD: comparison.base_config(seed)}
        runs |= {arm.label: comparison.arm_config(arm, seed) for arm in comparison.arms}
        for label, config in runs.items():
            say(f"\n{label}, seed {seed}: {RunFolder.of(config).path}")
            try:
                folder = RunFolder.of(config) if is_finished(RunFolder.of(config), config) else train_run(config, say)
            except NotFinite as error:
                if label == LIKELIHOOD:
                    raise
                say(f"failed: {error}")
                failed[config.name] = str(error)
                continue
            judge_run(folder, say, sweep=True)
            folders.setdefault(label, {})[seed] = folder
    evaluated = {
        label: {seed: load_reported_run(folder) for seed, folder in of_label.items()}
        for label, of_label in folders.items()
    }
    base = evaluated[LIKELIHOOD]
    models = [Model(LIKELIHOOD, LIKELIHOOD, base)]
    if comparison.base.steps("continued"):
        models.append(Model(CONTINUED, "continued", base))
    models += [
        Model(label, column, evaluated.get(arm.label, {}))
        for arm in comparison.arms
        for label, column in arm.columns.items()
    ]
    out = comparison.folder / "comparison"
    table = write_arms(models, comparison.seeds, comparison.file, out, failed)
    return table, out / "report.html", failed


def _check_runs(comparison: Comparison) -> None:
    """Raises UserError where a run that is still to be trained would be refused, before the first is."""
    if RunFolder(comparison.folder).config_file.exists():
        raise UserError(f"{comparison.folder} is a run folder; choose another --name for the comparison")
    done: dict[tuple[str, int], bool] = {}
    for seed in comparison.seeds:
        base = comparison.base_config(seed)
        done[BASE_SLUG, seed] = is_finished(RunFolder.of(base), base)
        for arm in comparison.arms:
            config = comparison.arm_config(arm, seed)
            done[arm.slug, seed] = is_finished(RunFolder.of(config), config)
    if all(done.values()):
        return
    first = comparison.base_config(comparison.seeds[0])
    folder = RunFolder.of(first)
    experiment = load_experiment(first, folder.read_tokenizer() if folder.check(first) else None)
    check(experiment, folder)
    for arm in comparison.arms:
        todo = [seed for seed in comparison.seeds if not done[arm.slug, seed]]
        if not todo:
            continue
        config = comparison.arm_config(arm, todo[0])
        try:
            generator, discriminator = build_networks(
                config, experiment.tokenizer.vocabulary, experiment.corpus.classes
            )
            trial = dataclasses.replace(experiment, config=config, generator=generator, discriminator=discriminator)
            check(trial, RunFolder.of(config))
        except UserError as error:
            raise error.within(f"{comparison.file}: arm {arm.name}") from None
