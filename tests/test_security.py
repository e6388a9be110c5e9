"""Nothing is unpickled, no foreign code is run, and what lies in a folder names nothing outside of it.

A malicious file of this page leaves a mark, the file `ran`, where its code is run.
"""

import ast
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from reported import check_self_contained
from tiny import train_tiny, write_config

from gptgan_jax.cli import main
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.runs.held_out import load_held_out
from gptgan_jax.sources.oracle import load_oracle
from gptgan_jax.types import Vocabulary

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "gptgan_jax").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), ROOT / "train.py"])

# ---- the code of the package

# Modules that run what they read.
FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
# Functions that run what they are given, by their last name, and methods of modules that do unless told otherwise.
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "system",
    "popen",
    "read_pickle",
    "unsafe_load",
    "full_load",
}
# A use of a forbidden thing that is meant, by file and name.
ALLOWED_IMPORTS = {
    ("config/estimators.py", "import_module"),  # an estimator of the user's (docs/extending.md)
    ("text_rewards/config.py", "import_module"),  # a reward function of the user's
    ("boards/wandb_run.py", "import_module"),  # wandb, by its name
    ("system/earlier_names.py", "import_module"),  # modules of this package, from a table
}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader", "_UniqueKeyLoader"}


def offences(source: str, file: str = "") -> Iterator[str]:
    """What a Python file does that would run foreign code, with the line."""
    for node in ast.walk(ast.parse(source)):
        for complaint in _offences_of(node, file):
            yield f"{file}:{node.lineno}: {complaint}"  # type: ignore[attr-defined]


def _offences_of(node: ast.AST, file: str) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        yield from (f"imports {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
    if isinstance(node, ast.Name | ast.Attribute) and _name(node) in {"allow_pickle", "trust_remote_code"}:
        yield f"names {_name(node)}"
    if not isinstance(node, ast.Call):
        return
    name, owner = _name(node.func), _name(getattr(node.func, "value", None))
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if "trust_remote_code" in keywords:
        yield "trusts remote code"
    method_of_something = name == "compile" and isinstance(node.func, ast.Attribute)  # a pattern, or a program of JAX
    if name in FORBIDDEN_CALLS and owner not in ("re", "model") and not method_of_something:
        yield f"calls {name}"
    if name == "import_module" and not any(file.endswith(f) and name == n for f, n in ALLOWED_IMPORTS):
        yield "imports a module by a name that is not written there"
    if name == "load" and owner in ("np", "numpy", "jnp") and not _is_false(keywords.get("allow_pickle")):
        yield "np.load without allow_pickle=False"
    if name in ("load", "load_all") and owner == "yaml":
        loader = keywords.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
        if _name(loader) not in SAFE_LOADERS:
            yield "yaml.load without a safe loader"
    if name == "load" and owner == "torch" and not _is_true(keywords.get("weights_only")):
        yield "torch.load without weights_only=True"
    if "shell" in keywords and not _is_false(keywords["shell"]):
        yield "runs a shell"


def _name(node: Any) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_false(node: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_true(node: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_file_runs_what_it_reads(path: Path) -> None:
    assert list(offences(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "import shelve as s",
        "eval('1')",
        "builtins.exec(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, None, flag)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "yaml.unsafe_load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "load_dataset(name, trust_remote_code=True)",
        "importlib.import_module(name)",
        "__import__(name)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_an_offence_is_found(source: str) -> None:
    assert list(offences(source))


def test_the_yaml_loader_of_configs_is_a_safe_one() -> None:
    from gptgan_jax.schema.yaml_files import _UniqueKeyLoader

    assert issubclass(_UniqueKeyLoader, yaml.SafeLoader)
    assert _UniqueKeyLoader.yaml_constructors == yaml.SafeLoader.yaml_constructors


def test_datasets_is_of_a_release_that_knows_no_scripts() -> None:
    """4.0 dropped them; pyproject.toml asks for it, and what is installed has no way in."""
    import inspect
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "datasets>=4.0" in project["dependencies"]
    assert int(datasets.__version__.split(".")[0]) >= 4
    assert "trust_remote_code" not in inspect.signature(datasets.load_dataset).parameters


# ---- files that hold a pickle


class Ran:
    """What unpickles to a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.mark), "w"))


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def malicious(mark: Path) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = Ran(mark)
    return array


READERS = {
    "oracle.npz": lambda path: load_oracle(path),
    "held_out.npz": lambda path: load_held_out(path.parent, Vocabulary(9)),
}


@pytest.mark.parametrize("name", READERS)
def test_an_npz_with_a_pickle_is_refused_and_not_unpickled(name: str, tmp_path: Path, mark: Path) -> None:
    path = tmp_path / name
    np.savez(path, embedding=malicious(mark), facts=malicious(mark), training_hashes=malicious(mark))
    with pytest.raises(UserError) as error:
        READERS[name](path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not mark.exists()
    np.load(path, allow_pickle=True)["embedding"]
    assert mark.exists(), "the file would do no harm, so the test shows nothing"


@pytest.mark.parametrize("name", READERS)
def test_a_bare_pickle_in_the_place_of_an_npz_is_refused(name: str, tmp_path: Path, mark: Path) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Ran(mark)))
    with pytest.raises(UserError):
        READERS[name](path)
    assert not mark.exists()


# ---- YAML

EVIL_YAML = {
    "a call": "name: !!python/object/apply:os.system ['touch {mark}']",
    "a new object": "name: !!python/object/new:subprocess.Popen [[touch, '{mark}']]",
    "a module": "name: !!python/module:antigravity",
    "a name": "name: !!python/name:os.system",
    "a tag of nowhere": "name: !evil x",
}


@pytest.mark.parametrize("text", EVIL_YAML.values(), ids=EVIL_YAML)
@pytest.mark.parametrize("command", ["train", "compare", "sample", "override"])
def test_yaml_that_calls_python_is_refused(
    command: str, text: str, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture
) -> None:
    text = text.replace("{mark}", str(mark))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(text)
    arguments = {
        "train": ["train", str(run / "config.yaml")],
        "compare": ["compare", str(run / "config.yaml")],
        "sample": ["sample", str(run)],
        "override": ["train", str(write_config(tmp_path)), "--evaluation.sweep.top_p", text.removeprefix("name: ")],
    }[command]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gptgan: ")
    assert not mark.exists()


# ---- a run folder from somebody else

HARMFUL = """import pathlib
pathlib.Path({mark!r}).touch()
from gptgan_jax import reinforce as make
"""
# As the words of a corpus, they are what the generator writes.
SCRIPT, IMAGE = "<script>alert(1)</script>", "<img/src=x/onerror=alert(1)>"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that learned markup, among few other words."""
    folder = tmp_path_factory.mktemp("trained")
    words = [SCRIPT, IMAGE, "|", "</code></pre>"]
    lines = [f"{one} {two} {three}" for one in words for two in words for three in words]
    (folder / "markup.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return train_tiny(folder, {"data.train": str(folder / "markup.txt"), "continued.steps": 0, "evaluation.every": 6})


@pytest.fixture
def foreign(trained: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run with a config that names a module of its author's, which can be imported, and files elsewhere."""
    folder = tmp_path / "foreign"
    shutil.copytree(trained, folder)
    (tmp_path / "evil_estimators.py").write_text(HARMFUL.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil_estimators", raising=False)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["objective"]["estimator"] = {"kind": "custom", "factory": "evil_estimators:make"}
    config["evaluation"] |= {"choose_by": "max(command)", "choose_command": f"touch {mark}"}
    config["objective"]["rewards"] = [{"function": "evil_estimators:make", "name": "evil"}]
    config["data"]["train"] = config["data"]["valid"] = "/nowhere/secret.txt"
    config["tokenizer"] = {"kind": "file", "path": "/nowhere/tokenizer.json"}
    config["runs_folder"] = "/nowhere/runs"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.cases(2)
@pytest.mark.thorough
@pytest.mark.parametrize("command", ["sample", "evaluate", "score", "report", "report two"])
def test_a_run_folder_is_read_without_the_module_and_the_files_that_its_config_names(
    command: str, foreign: Path, mark: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [command, str(foreign), *(["--samples", "3"] if command == "score" else [])]
    if command == "report two":
        arguments = ["report", str(foreign), str(foreign), "--out", str(foreign.parent / "two")]
    assert main(arguments) == 0, capsys.readouterr().err
    assert not mark.exists()
    assert "evil_estimators" not in sys.modules


@pytest.mark.thorough
def test_to_start_from_a_run_does_not_run_its_module(foreign: Path, mark: Path, trained: Path) -> None:
    keys = {"data.train": str(trained.parents[1] / "markup.txt"), "init_from": str(foreign), "warmup.steps": 0}
    keys |= {"adversarial.steps": 0, "likelihood.steps": 2, "continued.steps": 0, "evaluation.every": 1000}
    write_config(foreign.parent, keys)
    assert main(["train", str(foreign.parent / "tiny.yaml")]) == 0
    assert not mark.exists()


def test_a_folder_that_holds_another_run_is_refused_without_its_module(
    foreign: Path, mark: Path, trained: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write_config(foreign.parent, {"data.train": str(trained.parents[1] / "markup.txt"), "name": "foreign"})
    assert main(["train", str(path), "--runs_folder", str(foreign.parent)]) == 2
    assert "holds a run of another config" in capsys.readouterr().err
    assert not mark.exists()


def test_the_module_is_imported_where_the_user_trains_with_the_config(foreign: Path, mark: Path) -> None:
    """By design (docs/extending.md); and it shows that the tests above could fail."""
    assert main(["train", str(foreign / "config.yaml"), "--name", "mine"]) == 2  # there is no such text
    assert mark.exists()


def test_links_in_a_run_folder_are_not_written_through(foreign: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("report.html", "report.md", "evaluation.json", "loss.png"):
        (foreign / f"{name}.tmp").symlink_to(victim)
    for name in ("report.html", "report.md"):
        (foreign / name).unlink()
        (foreign / name).symlink_to(victim)
    assert main(["evaluate", str(foreign)]) == 0
    assert victim.read_text() == "mine"
    assert not (foreign / "report.html").is_symlink()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "..", "a\\..\\b"])
def test_a_name_is_no_path(name: str, foreign: Path, capsys: pytest.CaptureFixture) -> None:
    config = yaml.safe_load((foreign / "config.yaml").read_text()) | {"name": name}
    (foreign / "config.yaml").write_text(yaml.safe_dump(config))
    for command in ("sample", "evaluate", "report"):
        assert main([command, str(foreign)]) == 2
        assert "must be a plain folder name" in capsys.readouterr().err


# ---- data sets

SECRET = '{"text": "a secret"}\n'


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file beside the data set's folder."""
    path = tmp_path / "secret.jsonl"
    path.write_text(SECRET * 9)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data set folder, and caches of its own for the library."""
    for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
        monkeypatch.setattr(datasets.config, name, tmp_path / "cache" / name)
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def rows(folder: Path, count: int = 9) -> None:
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(count)))


def load(path: Path | str, tmp_path: Path, capsys: pytest.CaptureFixture, **keys: Any) -> str:
    """The one line that refuses a set; empty where it is read."""
    config = write_config(tmp_path, {"data.kind": "hf", "data.path": str(path), **keys, "likelihood.steps": 10**9})
    # A disk that is too small ends what would otherwise train.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0})())
        assert main(["train", str(config)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("note: ", "ALARM: "))]
    (line,) = lines
    return "" if "free some space" in line else line


def test_a_plain_folder_is_read(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows(folder)
    assert load(folder, tmp_path, capsys) == ""


CARDS = {
    "up": "configs:\n- config_name: default\n  data_files: ../secret.jsonl\n",
    "up in a list": "configs:\n- data_files:\n  - split: train\n    path: [a/../../secret.jsonl]\n",
    "from the root": "configs:\n- config_name: default\n  data_files: {root}/secret.jsonl\n",
    "a glob": "configs:\n- config_name: default\n  data_files: '../*.jsonl'\n",
    "a folder": "configs:\n- config_name: default\n  data_dir: ..\n",
    "an address": "configs:\n- config_name: default\n  data_files: file://{root}/secret.jsonl\n",
    "in an archive": "configs:\n- config_name: default\n  data_files: 'zip://x::{root}/secret.zip'\n",
}


@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_card_names_no_file_outside_of_its_folder(
    file: str, card: str, folder: Path, outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows(folder)
    card = card.replace("{root}", str(tmp_path))
    (folder / file).write_text(f"---\n{card}---\nA set.\n" if file == "README.md" else card)
    line = load(folder, tmp_path, capsys)
    assert str(folder / file) in line
    assert "outside of the data set" in line


def test_a_card_of_files_inside_is_followed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows(folder)
    (folder / "train.jsonl").rename(folder / "rows.jsonl")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: rows.jsonl\n---\n")
    assert load(folder, tmp_path, capsys) == ""


def test_a_link_out_of_a_data_set_is_refused(folder: Path, outside: Path, tmp_path: Path, capsys) -> None:
    (folder / "train.jsonl").symlink_to(outside)
    line = load(folder, tmp_path, capsys)
    assert f"{folder / 'train.jsonl'} is a link to {outside}, outside of the data set" in line
    (folder / "train.jsonl").unlink()
    (folder / "inner").symlink_to(tmp_path, target_is_directory=True)
    rows(folder)
    assert "is a link to" in load(folder, tmp_path, capsys)


def test_a_snapshot_in_the_hubs_cache_may_link_to_its_blobs(folder: Path, tmp_path: Path, capsys) -> None:
    snapshot = folder / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    rows(folder)
    (folder / "train.jsonl").rename(folder / "blobs" / "abc")
    (snapshot / "train.jsonl").symlink_to(Path("..") / ".." / "blobs" / "abc")
    assert load(snapshot, tmp_path, capsys) == ""


def test_what_save_to_disk_wrote_names_no_file_outside(folder: Path, tmp_path: Path, capsys) -> None:
    for name in ("set", "other"):
        datasets.Dataset.from_dict({"text": [f"{name} {i}" for i in range(9)]}).save_to_disk(str(tmp_path / name))
    assert load(folder, tmp_path, capsys) == ""
    state = json.loads((folder / "state.json").read_text())
    (file,) = state["_data_files"]
    file["filename"] = f"../other/{file['filename']}"
    (folder / "state.json").write_text(json.dumps(state))
    line = load(folder, tmp_path, capsys)
    assert str(folder / "state.json") in line
    assert "outside of the data set" in line
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "../other"]}))
    assert "names '../other', outside of the data set" in load(splits, tmp_path, capsys)
    (splits / "dataset_dict.json").write_text("[" * 100_000)
    assert "not a JSON file" in load(splits, tmp_path, capsys)


def test_a_script_in_a_data_set_is_not_run(folder: Path, mark: Path, tmp_path: Path, capsys) -> None:
    rows(folder)
    (folder / "set.py").write_text(f"open({str(mark)!r}, 'w')\n")
    load(folder, tmp_path, capsys)
    load(folder / "set.py", tmp_path, capsys)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["pandas", "text", "arrow", "webdataset", "eval", "cache"])
def test_a_format_is_no_data_set(
    name: str, folder: Path, mark: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pandas` would unpickle whatever train.pkl lies in the current folder, in some releases."""
    (folder / "train.pkl").write_bytes(pickle.dumps(Ran(mark)))
    monkeypatch.chdir(folder)
    line = load(name, tmp_path, capsys)
    assert line
    assert name == "cache" or "is a format, not a data set" in line
    assert not mark.exists()


@pytest.mark.parametrize("name", ["train.pkl", "train.pickle", "train.npy", "train.pt"])
def test_a_folder_of_pickles_is_refused(name: str, folder: Path, mark: Path, tmp_path: Path, capsys) -> None:
    (folder / name).write_bytes(pickle.dumps(Ran(mark)))
    assert load(folder, tmp_path, capsys)
    assert not mark.exists()


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", ["zip", "tar", "tar link"])
def test_an_archive_writes_nothing_outside_of_the_cache(
    kind: str, folder: Path, outside: Path, tmp_path: Path, capsys
) -> None:
    """Its good file may be read; the others, which climb out, are neither written nor read."""
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    evil, good = "../../../../../../escaped.jsonl", "train.jsonl"
    archive = folder / f"rows.{kind[:3]}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr(evil, SECRET * 9)
            zipped.writestr(good, '{"text": "good"}\n' * 9)
    else:
        with tarfile.open(archive, "w") as tarred:
            link = tarfile.TarInfo("linked.jsonl")
            link.type, link.linkname = tarfile.SYMTYPE, str(outside)
            entries = [(tarfile.TarInfo(evil), SECRET * 9), (tarfile.TarInfo(good), '{"text": "good"}\n' * 9)]
            if kind == "tar link":
                tarred.addfile(link)
            for info, text in entries:
                info.size = len(text)
                tarred.addfile(info, io.BytesIO(text.encode()))
    line = load("json", tmp_path, capsys, **{"data.train": str(archive)})
    assert "secret" not in line
    after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts} - {archive, tmp_path / "tiny.yaml"}
    assert after - {tmp_path / "cache", tmp_path / "runs"} == before
    assert not any(path.name == "escaped.jsonl" for path in tmp_path.parent.rglob("*"))
    assert os.readlink(outside) if outside.is_symlink() else outside.read_text() == SECRET * 9


# ---- reports


def test_the_report_of_a_run_that_learned_markup_has_none_of_it(trained: Path) -> None:
    """Trained, sampled and judged for real: its texts are full of tags, and the pages have no element of them."""
    judged = Evaluation.load(trained)
    assert judged is not None
    assert any(SCRIPT in text for texts in judged.shown.values() for text in texts)
    assert SCRIPT in (trained / "samples.txt").read_text()
    text = (trained / "report.html").read_text(encoding="utf-8")
    page = check_self_contained(text)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert any(SCRIPT in shown for _, shown in page.texts)
    markdown = (trained / "report.md").read_text(encoding="utf-8")
    outside_code = "".join(markdown.split("```")[::2])
    assert SCRIPT not in outside_code
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in outside_code


def test_markup_in_names_alarms_and_arms_is_text_in_all_three_reports(tmp_path: Path) -> None:
    from reported import evaluation, make_run, sweep

    from gptgan_jax.reports.arms import write_arms
    from gptgan_jax.reports.arms_table import LIKELIHOOD, Model
    from gptgan_jax.reports.comparison import write_comparison
    from gptgan_jax.reports.run import write_run_report

    evil = "<img src=x onerror=alert(1)> | b"
    runs = [
        make_run(tmp_path, f"{evil} {i}", evaluation(sweep=sweep(0.1, [column]), notes=[evil]), alarm=evil, seed=i)
        for i, column in enumerate(("likelihood", "adversarial"))
    ]
    write_run_report(runs[1])
    write_comparison(runs, tmp_path / "comparison")
    models = [Model(LIKELIHOOD, "likelihood", {0: runs[0]}), Model(evil, "adversarial", {0: runs[1]})]
    write_arms(
        models, (0,), tmp_path / f"{evil}.yaml", tmp_path / "arms", {evil: evil}, command=["gptgan", "compare", evil]
    )
    for folder in (runs[1].folder, tmp_path / "comparison", tmp_path / "arms"):
        page = check_self_contained((folder / "report.html").read_text(encoding="utf-8"))
        assert any(evil in text for _, text in page.texts)
        for block in (folder / "report.md").read_text(encoding="utf-8").split("\n\n"):
            lines = block.splitlines()
            if lines and lines[0].startswith("|"):
                assert len({line.count("|") for line in lines}) == 1, block
