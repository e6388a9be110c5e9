"""The run folder: whose run it is, and whether there is room for it."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny import tiny_config, train_tiny, write_config

from gptgan_jax.cli import main
from gptgan_jax.config import Config
from gptgan_jax.data.tokenizers import CharacterTokenizer, IdTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder, check_disk
from gptgan_jax.types import Vocabulary

TOKENIZER = IdTokenizer(Vocabulary(9, pad_id=0, bos_id=0, eos_id=None))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return tiny_config(tmp_path)


@pytest.fixture
def folder(config: Config) -> RunFolder:
    """A run's folder right after it was made."""
    made = RunFolder.of(config)
    made.create(config, TOKENIZER)
    return made


def test_a_run_lies_in_the_runs_folder_under_its_name(config: Config, tmp_path: Path) -> None:
    assert RunFolder.of(config).path == tmp_path / "runs" / "tiny"


def test_no_folder_and_an_empty_one_are_free(config: Config, tmp_path: Path) -> None:
    free = RunFolder(tmp_path / "free")
    assert free.check(config) is False
    free.path.mkdir()
    assert free.check(config) is False


def test_a_folder_in_which_another_process_logged_is_free(config: Config, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "native-3.log").touch()
    assert RunFolder(tmp_path / "there").check(config) is False


def test_the_folder_of_the_same_config_is_to_be_resumed(folder: RunFolder, config: Config) -> None:
    assert folder.check(config) is True
    assert folder.read_config() == config
    assert folder.read_tokenizer() == TOKENIZER


def test_a_run_that_was_moved_to_another_runs_folder_is_still_the_same(folder: RunFolder, config: Config) -> None:
    assert folder.check(dataclasses.replace(config, runs_folder="elsewhere")) is True


def test_a_run_whose_tokenizer_is_that_of_what_it_starts_from_is_still_the_same(config: Config) -> None:
    """Its config.yaml has no section `tokenizer`, which says nothing there."""
    config = dataclasses.replace(config, init_from="/another", tokenizer=CharacterTokenizer(alphabet="ab"))
    folder = RunFolder.of(config)
    folder.create(config, TOKENIZER)
    assert folder.check(config) is True
    with pytest.raises(UserError, match=r"tokenizer\.kind"):
        folder.check(dataclasses.replace(config, init_vocabulary="by_token"))


def test_another_config_is_refused_with_what_differs(folder: RunFolder, config: Config) -> None:
    other = dataclasses.replace(config, seed=4)
    with pytest.raises(UserError, match=r"another config \(seed: 0 -> 4\); choose another --name or remove it"):
        folder.check(other)


def test_of_many_differences_four_are_shown_and_the_others_counted(folder: RunFolder, config: Config) -> None:
    data = dataclasses.replace(config.data, max_length=5, max_prompt_length=2, valid_fraction=0.1, test_fraction=0.1)
    other = dataclasses.replace(config, seed=4, vocab_size=18, data=data)
    with pytest.raises(UserError, match=r"\(seed: 0 -> 4; vocab_size: None -> 18; .*; and 2 more\)"):
        folder.check(other)


def test_a_folder_without_config_is_nobodys_run(config: Config, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"sea")
    with pytest.raises(UserError, match="exists and is no run folder; choose another --name"):
        RunFolder(tmp_path).check(config)
    with pytest.raises(UserError, match=r"is no run folder: it has no config\.yaml; give one that `gptgan train` made"):
        RunFolder(tmp_path).read_config()


def test_the_disk_is_asked_at_the_nearest_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=5_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check_disk(tmp_path / "not" / "yet", 5_000_000)
    assert asked == [tmp_path]
    with pytest.raises(UserError, match="need up to 6 MB, 5 MB are free on the disk; free some space"):
        check_disk(tmp_path / "not" / "yet", 6_000_000)
    held = tmp_path / "held"
    held.mkdir()
    (held / "checkpoint").write_bytes(bytes(9_000_000))
    check_disk(held, 14_000_000, 5_000_000)
    with pytest.raises(UserError, match="need up to 14 MB, 9 MB are there and 5 MB are free on the disk; free"):
        check_disk(held, 14_000_000, 6_000_000)


NEW_IN_0_2 = {"long_documents", "attend_across", "document", "store", "max_tokens", "packing"}


@pytest.mark.thorough
@pytest.mark.parametrize("max_length", [6, 3])
def test_a_run_of_version_0_1_goes_on_with_its_text_cut_as_it_was(
    tmp_path: Path, max_length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"data.max_length": max_length, "warmup.steps": 0, "adversarial.steps": 0, "continued.steps": 0}
    folder = RunFolder(train_tiny(tmp_path, keys | {"data.long_documents": "cut"}))
    raw = yaml.safe_load(folder.config_file.read_text())
    for section in ("data", "likelihood"):
        raw[section] = {name: value for name, value in raw[section].items() if name not in NEW_IN_0_2}
    folder.config_file.write_text(yaml.safe_dump(raw))
    assert folder.read_config().data.long_documents == "cut"
    capsys.readouterr()

    command = ["train", str(write_config(tmp_path, keys))]
    # Where no text is longer than the model the key makes no difference.
    assert main(command) == (0 if max_length == 6 else 2)
    assert ("--data.long_documents cut" in capsys.readouterr().err) == (max_length == 3)
    if max_length == 3:
        assert main([*command, "--data.long_documents", "cut"]) == 0
