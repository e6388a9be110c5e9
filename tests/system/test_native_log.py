"""Native libraries write into a file, Python on the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from gptgan_jax.system.native_log import native_log_in, native_output_apart
folder = Path(sys.argv[1])
with native_output_apart():
    os.write(2, b"early noise\\n")
    print("ours", file=sys.stderr)
    if sys.argv[2] == "placed":
        native_log_in(folder, int(sys.argv[3]))
        os.write(2, b"late noise\\n")
    if sys.argv[2] == "broken":
        raise RuntimeError("bad")
os.write(2, b"after\\n")
"""


def said(folder: Path, how: str, process: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), how, str(process)], capture_output=True, text=True, check=False
    )
    return done.stderr


def test_noise_goes_into_the_file_from_its_beginning(tmp_path: Path) -> None:
    assert said(tmp_path, "placed") == "ours\nafter\n"
    assert (tmp_path / "native.log").read_text() == "early noise\nlate noise\n"


def test_processes_of_one_run_have_a_file_each(tmp_path: Path) -> None:
    said(tmp_path, "placed")
    said(tmp_path, "placed", process=1)
    assert {path.name for path in tmp_path.iterdir()} == {"native.log", "native-1.log"}


def test_without_a_place_it_is_left_out_and_before_a_traceback_it_is_not(tmp_path: Path) -> None:
    assert said(tmp_path, "unplaced") == "ours\nafter\n"
    lines = said(tmp_path, "broken").splitlines()
    assert lines[:2] == ["ours", "early noise"]
    assert lines[-1] == "RuntimeError: bad"
    assert not list(tmp_path.iterdir())


@pytest.mark.cases(1)
@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_it_is_never_written_through_a_link(link: str, tmp_path: Path) -> None:
    target, folder = tmp_path / "precious", tmp_path / "run"
    target.write_text("precious")
    folder.mkdir()
    if link == "hard":
        (folder / "native.log").hardlink_to(target)
    else:
        (folder / "native.log").symlink_to(target)
    said(folder, "placed")
    assert target.read_text() == "precious"
    assert "late noise" in (folder / "native.log").read_text()
