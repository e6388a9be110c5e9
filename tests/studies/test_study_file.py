"""A study's file: its cells are comparisons, and every mistake is a line that names what is wrong and where."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies.grids import HIDDEN, JUDGES, study_in, write_study

from gptgan_jax.config.files import load_config
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.studies.jobs import jobs_of
from gptgan_jax.studies.study_file import load_study

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))


def test_cells_are_all_combinations_of_the_axes_points_in_order(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    assert [cell.name for cell in study.cells] == [
        "hidden 4, small",
        "hidden 4, large",
        "hidden 6, small",
        "hidden 6, large",
    ]
    assert [cell.slug for cell in study.cells][:2] == ["hidden-4_small", "hidden-4_large"]
    assert study.axes == {"generator.hidden": ("4", "6"), "judge": ("small", "large")}
    last = study.cells[-1].comparison
    assert (last.base.generator.hidden, last.arms[0].config.discriminator.embedding) == (6, 8)
    assert last.arms[0].config.warmup.steps == 2, "the cell's key wins over what is set for all"
    assert study.seeds == (0, 1)
    assert study.folder == tmp_path / "runs" / "grid"


def test_an_arms_own_keys_win_over_the_cells(tmp_path: Path) -> None:
    arms = {"reinforce": {}, "short": {"set": {"warmup.steps": 0}}}
    compared = study_in(tmp_path, arms=arms).cells[1].comparison
    assert [arm.config.warmup.steps for arm in compared.arms] == [2, 0]


def test_a_list_of_cells_gives_each_by_itself(tmp_path: Path) -> None:
    cells = [{"name": "as it is"}, {"name": "Wide!", "set": {"generator.hidden": 6, "generator.embedding": 6}}]
    study = study_in(tmp_path, cells=cells)
    assert [(cell.name, cell.slug) for cell in study.cells] == [("as it is", "as-it-is"), ("Wide!", "wide")]
    assert [cell.comparison.base.generator.embedding for cell in study.cells] == [4, 6]


def test_a_comparison_may_lie_in_a_file_of_its_own(tmp_path: Path) -> None:
    inline = write_study(tmp_path)
    raw = yaml.safe_load(inline.read_text())
    other = {key: raw[key] for key in ("base", "arms")} | {
        "set": {"adversarial.steps": 7, "warmup.steps": 1},
        "seeds": 5,
    }
    (tmp_path / "compared").mkdir()
    (tmp_path / "compared" / "both.yaml").write_text(yaml.safe_dump(other | {"base": "../tiny.yaml"}, sort_keys=False))
    named = tmp_path / "named.yaml"
    named.write_text(
        yaml.safe_dump({"compare": "compared/both.yaml", "set": {"adversarial.steps": 2}, "cells": HIDDEN})
    )
    study = load_study(named, overrides=["--name", "mine"])
    assert len(study.seeds) == 5, "the comparison's own"
    assert study.cells[0].comparison.arms[0].config.adversarial.steps == 2, "the study's keys win over its"
    assert study.folder == tmp_path / "runs" / "mine"


def test_cells_that_differ_only_in_what_judges_share_their_likelihood_runs(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    jobs = jobs_of(study)
    folders = [str(job.folder.relative_to(study.folder)) for job in jobs]
    assert len(folders) == len(set(folders)) == 2 * (2 * 2 + 4), (
        "of 2 seeds: 2 likelihoods, each longer too, and 4 arms"
    )
    small, large = ([job for job in jobs if job.cell == name] for name in ("hidden 4, small", "hidden 4, large"))
    assert {job.arm for job in small} == {"likelihood", "longer", "reinforce"}
    assert {job.arm for job in large} == {"reinforce"}
    assert {job.needs for job in large} == {job.folder for job in small if job.arm == "likelihood"}
    assert all(job.config.init_from == str(job.needs) for job in large)


def test_shared_likelihood_runs_stay_where_they_are_when_a_cell_comes_before_them(tmp_path: Path) -> None:
    first = study_in(tmp_path, cells=HIDDEN | {"judge": {"large": JUDGES["judge"]["large"]}})
    base = first.cells[0].comparison.base_config(1)
    RunFolder.of(base).path.mkdir(parents=True)
    RunFolder.of(base).write_config(base)
    study = study_in(tmp_path)
    starts = {job.cell: job.needs for job in jobs_of(study) if job.needs is not None and job.seed == 1}
    assert starts["hidden 4, small"] == starts["hidden 4, large"] == RunFolder.of(base).path
    assert starts["hidden 6, small"].parent.name == "hidden-6_small"


def test_other_text_is_another_likelihood_training(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells={"data.train_size": [40, 60], "objective.kl_weight": [0.0, 1.0]})
    starts = [cell.comparison.base.runs_folder.rpartition("/")[2] for cell in study.cells]
    assert starts == ["train_size-40_kl_weight-0.0"] * 2 + ["train_size-60_kl_weight-0.0"] * 2


@pytest.mark.parametrize(
    ("key", "values", "shared"),
    [
        ("likelihood.steps", [4, 5], False),
        ("continued.steps", [0, 2], False),
        ("evaluation.samples", [20, 30], False),
        ("objective.rewards", [[], [{"function": "length"}]], False),  # the text's columns are theirs
        ("objective.kl_weight", [0.0, 1.0], True),
        ("discriminator.embedding", [4, 8], True),
        ("warmup.steps", [1, 2], True),
        ("adversarial.steps", [2, 3], False),  # continued training is as long
        ("adversarial.batch_size", [8, 16], False),  # continued training reads as many texts a step
        ("records.tensorboard", [True, False], True),
    ],
)
def test_what_likelihood_training_or_its_evaluation_reads_is_not_shared(
    key: str, values: list[Any], shared: bool, tmp_path: Path
) -> None:
    study = study_in(tmp_path, cells={"axis": {f"point {i}": {key: value} for i, value in enumerate(values)}})
    starts = {job.folder for job in jobs_of(study) if job.arm == "likelihood" and job.seed == 0}
    assert len(starts) == (1 if shared else 2)
    assert {job.needs for job in jobs_of(study) if job.arm == "reinforce" and job.seed == 0} == starts


def test_without_continued_training_no_size_of_the_adversarial_batches_is_read(tmp_path: Path) -> None:
    study = study_in(
        tmp_path, set={"adversarial.steps": 2, "continued.steps": 0}, cells={"adversarial.batch_size": [8, 16]}
    )
    assert len({job.folder for job in jobs_of(study) if job.arm == "likelihood" and job.seed == 0}) == 1


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"cell": {}}, "grid.yaml: unknown key 'cell'; did you mean 'cells'?"),
    "no cells": ({"cells": None}, "cells should be a mapping of keys to lists of values, or a list of cells"),
    "empty axis": ({"cells": {"generator.hidden": []}}, "cells: generator.hidden is an axis without a point"),
    "an axis of one value": (
        {"cells": {"generator.hidden": 8}},
        "generator.hidden should be a list of values of the key",
    ),
    "unknown axis": (
        {"cells": {"generator.hiden": [4]}},
        "'generator.hiden' is no key of a config; did you mean 'generator.hidden'?",
    ),
    "unknown key of a point": (
        {"cells": {"d": {"a": {"discriminator.embeding": 4}}}},
        "cells: d: a: 'discriminator.embeding' is no key",
    ),
    "a value twice": ({"cells": {"generator.hidden": [4, 4]}}, "generator.hidden: 4 is given twice; take it out"),
    "a folder twice": (
        {"cells": {"d": {"A": {}, "a!": {}}}},
        "d: a! would have the folder of A, a; take it out, or rename it",
    ),
    "a cell twice": ({"cells": [{"name": "x"}, {"name": "x"}]}, "cells: x is given twice"),
    "a cell without a name": ({"cells": [{"set": {}}]}, "cell 1 should be a mapping with name and set"),
    "a cell's unknown key": ({"cells": [{"name": "x", "sett": {}}]}, "cell 1: unknown key 'sett'; did you mean 'set'?"),
    "a seed as an axis": ({"cells": {"seed": [1, 2]}}, "seed can't differ between cells: seeds says which there are"),
    "the same experiment": (
        {"cells": {"warmup.steps": [1, 2]}, "arms": {"x": {"set": {"warmup.steps": 3}}}},
        "cell steps 2 is the same experiment as cell steps 1: an arm's own keys may win",
    ),
    "a refused config": (
        {"cells": {"generator.hidden": [4, -1], "evaluation.shown": [3, 2]}},
        "cell hidden -1, shown 3: base tiny.yaml: generator.hidden: should be greater than or equal to 1, not -1 "
        "(so in 1 more cell)",
    ),
    "a refused arm": (
        {"arms": {"x": {"preset": 3}}},
        "cell hidden 4, small: arm x: preset should be a config file, not 3 (so in 3 more cells)",
    ),
    "no comparison": (
        {"base": None, "arms": None},
        "compare should be a comparison's file, such as compare_recommended.yaml",
    ),
    "two comparisons": ({"compare": "x.yaml"}, "compare names a comparison, and base stands beside it; drop one"),
    "a missing comparison": ({"compare": "x.yaml", "base": None, "arms": None}, "compare: "),
    "no seeds": ({"seeds": 0}, "seeds 0 should be a whole number, at least 1"),
    "a report's key": ({"report": {"line": "judge"}}, "report: unknown key 'line'; did you mean 'lines'?"),
    "a report's axis": ({"report": {"along": "juge"}}, "report: along: unknown key 'juge'; did you mean 'judge'?"),
    "one axis for both": (
        {"report": {"along": "judge", "lines": "judge"}},
        "along and lines are both judge; give two axes",
    ),
    "a report's figure": (
        {"report": {"figures": ["forwrd KL"]}},
        "report: figures: unknown key 'forwrd KL'; did you mean 'forward KL'?",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_line_that_names_its_place(mistake: str, tmp_path: Path) -> None:
    changes, says = MISTAKES[mistake]
    with pytest.raises(UserError, match=re.escape(says)) as raised:
        study_in(tmp_path, **changes)
    assert len(raised.value.lines) == 1
    assert str(raised.value).startswith(f"{tmp_path / 'grid.yaml'}: ")
    assert not (tmp_path / "runs").exists()


def test_different_mistakes_of_several_cells_are_a_line_each(tmp_path: Path) -> None:
    cells = {"generator.hidden": [-1, 4, -2]}
    with pytest.raises(UserError) as raised:
        study_in(tmp_path, cells=cells)
    assert [line.split(": ")[1] for line in raised.value.lines] == ["cell hidden -1", "cell hidden -2"]


def test_the_command_line_can_not_set_what_differs_between_cells(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    for given in ("--generator.hidden=8", "--generator", "--discriminator.embedding"):
        with pytest.raises(UserError, match=r"grid.yaml has .* differ between its cells; change it there"):
            load_study(path, overrides=[given, "{}"])
    assert load_study(path, 3, ["--seed", "5"]).seeds == (5, 6, 7)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_projects_own_studies_can_be_read_and_are_listed(path: Path) -> None:
    study = load_study(path)
    assert len(study.seeds) >= 3
    text = path.read_text(encoding="utf-8")
    assert f"gptgan study configs/studies/{path.name}" in text
    assert f"configs/studies/{path.name}" in (path.parents[2] / "docs" / "configs.md").read_text(encoding="utf-8")
    assert load_config(path.parents[1] / "quickstart.yaml")
