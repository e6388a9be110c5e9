"""Files that are written all or nothing, and that the package writes its files in no other way."""

import ast
import os
import stat
from pathlib import Path

import pytest

from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import remove_partial_files, whole_file, write_whole

PACKAGE = Path(__file__).parents[2] / "gptgan_jax"


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path) as first:
        first.write(b"first, ")
        with whole_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"to its end")
    assert path.read_bytes() == b"first, to its end"


def test_links_are_replaced_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "file").symlink_to(victim)
    (tmp_path / "file.tmp").symlink_to(victim)
    os.link(victim, tmp_path / "hard")
    for name in ("file", "hard"):
        write_whole(tmp_path / name, b"new")
        assert (tmp_path / name).read_text() == "new"
        assert not (tmp_path / name).is_symlink()
    assert victim.read_text() == "mine"
    assert (tmp_path / "file.tmp").is_symlink(), "a file of the user's may be called so"


def test_a_file_is_readable_by_whom_the_user_lets_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_pipe_is_refused_and_stays(tmp_path: Path) -> None:
    """So is a device, /dev/null say, in whose place an administrator could put a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(UserError, match="is a device or a pipe; give the name of a file"):
            write_whole(path, b"new")
    assert pipe.is_fifo()


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "notes.tmp"
    kept.write_text("mine")
    interrupted = whole_file(tmp_path / "file")
    interrupted.__enter__()  # and not left
    assert len(list(tmp_path.iterdir())) == 2
    remove_partial_files(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


# ---- no other way

# Calls that write a file by its name, and where they are meant: file and name of the call.
WRITERS = {"write_text", "write_bytes", "savefig", "savez", "savez_compressed", "save_file"}
MEANT = {
    ("checkpoints/checksums.py", "write_text"),  # in a folder that Orbax has just made, local or remote
    ("runs/held_out.py", "savez_compressed"),  # into a whole file, as the next two
    ("scoring/judge.py", "savez"),
    ("reports/document.py", "savefig"),  # into memory
    ("export/stablehlo.py", "save_file"),  # in a folder that was just made, as the next
    ("pretrained/weights.py", "save_file"),
    ("runs/records.py", "open"),  # grows, after it was written whole
    ("system/atomic_files.py", "open"),
    ("system/native_log.py", "open"),  # grows while the process lives; never through a link
    ("runs/lock.py", "open"),
    ("data/packing.py", "open"),  # renamed when whole, as those of a store
    ("studies/pool.py", "open"),  # a run's log, which grows while it runs
    ("data/store.py", "open"),  # of what is read, and of a lock; its files are renamed when whole
    ("cli/__init__.py", "open"),  # /dev/null
}


def writes(source: str) -> set[str]:
    """The calls of a Python file that write files by their names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        words = [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = {word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)}
        # os.open has flags instead of a mode.
        opens = name == "open" and (owner == "os" or any(set(mode) & set("wax+") and len(mode) < 4 for mode in modes))
        if opens or name in WRITERS:
            found.add(name)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_writes_files_whole(path: Path) -> None:
    file = str(path.relative_to(PACKAGE))
    assert not {name for name in writes(path.read_text(encoding="utf-8")) if (file, name) not in MEANT}


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text('x')",
        "(folder / 'a').write_bytes(b'')",
        "open(path, 'w')",
        "path.open('wb')",
        "path.open(mode='a')",
        "np.savez(path, x=x)",
        "os.open(path, os.O_WRONLY)",
    ],
)
def test_the_scan_sees(source: str) -> None:
    assert writes(source)


@pytest.mark.parametrize("source", ["open(path)", "path.open('rb')", "open(path, encoding='utf-8')", "jnp.copy(x)"])
def test_the_scan_lets_pass(source: str) -> None:
    assert not writes(source)
