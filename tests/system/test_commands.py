"""A program that reads its standard input and prints a number."""

import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from gptgan_jax.system.commands import Failed, missing_program, number_from


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_it_is_the_number_on_the_last_line_and_the_input_is_what_was_given() -> None:
    counted = python("import sys; print('news'); print(len(sys.stdin.read().splitlines()) / 4); print()")
    assert number_from(counted, "a\n" * 7, 60) == 1.75
    assert number_from(python("print('nan')"), "", 60) != number_from(python("print('nan')"), "", 60)


def test_a_program_that_reads_nothing_of_much_text_is_no_failure() -> None:
    assert number_from(python("print(-3e2)"), "x" * 10**6, 60) == -300


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('of no use')", "ended with status 1: of no use"),
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("print('1 2')", "should print a number on its last line, and printed '1 2'"),
        ("pass", "printed ''"),
    ],
)
def test_what_it_does_instead_is_told(code: str, message: str) -> None:
    with pytest.raises(Failed, match=message):
        number_from(python(code), "", 60)


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="should print a number"):
        number_from(f"echo 1; touch {tmp_path / 'mark'} | $(touch {tmp_path / 'mark'})", "", 60)
    assert not (tmp_path / "mark").exists()
    assert missing_program("no_such_program_at_all --x") == "no_such_program_at_all"
    with pytest.raises(Failed, match="can't be started"):
        number_from("no_such_program_at_all", "", 60)


def ends(pid: int) -> bool:
    """Whether a process is gone, or will be soon."""
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", ["too long", "stopped"])
def test_one_that_takes_too_long_or_is_not_waited_for_is_ended_with_all_that_it_began(how: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    child = f"import os, time; open({str(pids)!r}, 'a').write(str(os.getpid()) + chr(10)); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); {child}"

    class Stopped(Exception):
        """A wish to stop."""

    def look() -> None:
        begun = pids.exists() and pids.read_text().count("\n") == 2
        if how == "stopped" and begun:
            raise Stopped

    if how == "stopped":
        with pytest.raises(Stopped):
            number_from(python(code), "", 60, look)
    else:
        with pytest.raises(Failed, match="took more than 3 seconds"):
            number_from(python(code), "", 3, look)
    started = [int(line) for line in pids.read_text().split()]
    assert started
    assert all(ends(pid) for pid in started)
    assert os.getpid() not in started
