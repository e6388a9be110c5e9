"""Checkpoints: the best and the latest stay, names find them, and what cannot be read is set aside."""

import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from orbax.checkpoint.path import atomicity

from gptgan_jax.checkpoints import atomic_save
from gptgan_jax.checkpoints.atomic_save import discard_unfinished
from gptgan_jax.checkpoints.manager import Checkpoints, restore_latest_readable, state_bytes
from gptgan_jax.checkpoints.steps import Damaged, NotSaved, Saved
from gptgan_jax.errors import UserError
from gptgan_jax.types import GanState, Player

PARAMS = ("generator", "params")


def state_of(step: int) -> GanState:
    """A state of a few numbers that tell its step."""
    players = [Player({"w": jnp.full(5, 10 * step + i, jnp.float32)}, {"count": jnp.int32(step)}) for i in (1, 2)]
    key, number = jax.random.key(step), jnp.int32(step)
    return GanState(number, key, number, *players, estimator=jnp.float32(step), reference=None)


def target(phase: str = "likelihood") -> GanState:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), state_of(0))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Iterator[Checkpoints]:
    with Checkpoints(tmp_path / "checkpoints", keep=2) as opened:
        yield opened


def save(checkpoints: Checkpoints, phase: str, losses: dict[int, float | None]) -> None:
    for step, loss in losses.items():
        checkpoints.save(phase, state_of(step), loss)
    checkpoints.wait()


def cut_short(checkpoints: Checkpoints, phase: str, step: int) -> None:
    for path in (checkpoints.folder / phase / str(step) / "default" / "d").iterdir():
        path.write_bytes(b"")


def names(checkpoints: Checkpoints) -> list[str]:
    return [f"{saved.phase}/{saved.step}" for saved in checkpoints.all()]


def test_a_state_comes_back_as_it_was(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {3: 1.0})
    restored = checkpoints.restore(checkpoints.latest(), target())
    assert jax.tree.structure(restored) == jax.tree.structure(state_of(3))
    assert (jax.random.key_data(restored.key) == jax.random.key_data(jax.random.key(3))).all()
    np.testing.assert_array_equal(restored.generator.params["w"], 31.0)
    np.testing.assert_array_equal(restored.discriminator.params["w"], 32.0)
    assert restored.discriminator.opt_state["count"] == 3


def test_a_state_that_is_donated_right_after_is_saved_as_it_was(checkpoints: Checkpoints) -> None:
    wide = {"w": jnp.full(4_000_000, 7.0)}
    state = state_of(1).replace(generator=Player(wide, {"count": jnp.int32(1)}))
    step = jax.jit(lambda params: jax.tree.map(lambda x: x + 1, params), donate_argnums=0)
    checkpoints.save("likelihood", state, 1.0)
    params = state.generator.params
    for _ in range(20):
        params = step(params)
    checkpoints.wait()
    with Checkpoints(checkpoints.folder, read_only=True) as reader:
        assert set(np.unique(reader.restore_part(reader.latest(), PARAMS, wide_shapes())["w"])) == {7}


def wide_shapes() -> dict[str, jax.ShapeDtypeStruct]:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return {"w": jax.ShapeDtypeStruct((4_000_000,), jnp.float32, sharding=here)}


def test_the_generators_parameters_come_back_alone(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {3: 1.0})
    with Checkpoints(checkpoints.folder, read_only=True) as reader:
        params = reader.restore_part(reader.latest(), PARAMS, target().generator.params)
    assert list(params) == ["w"]
    np.testing.assert_array_equal(params["w"], 31.0)


def test_the_best_stays_while_newer_ones_rotate(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5, 5: None, 6: 4.0})
    assert names(checkpoints) == ["likelihood/2", "likelihood/5", "likelihood/6"]
    assert checkpoints.best("likelihood").step == 2
    assert checkpoints.latest().step == 6


def test_a_later_best_takes_the_place_of_an_earlier_one(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 1.0, 3: 0.5, 4: 2.5, 5: 4.0})
    assert names(checkpoints) == ["likelihood/3", "likelihood/4", "likelihood/5"]


def test_each_phase_keeps_its_own_and_the_latest_is_that_of_the_highest_step(checkpoints: Checkpoints) -> None:
    save(checkpoints, "adversarial", {8: 2.0, 9: 1.0})
    save(checkpoints, "likelihood", {1: 3.0, 2: 1.0})
    assert names(checkpoints) == ["likelihood/1", "likelihood/2", "adversarial/8", "adversarial/9"]
    assert checkpoints.latest().step == 9


@pytest.mark.parametrize("figure", ["valid_nats", "class_error", "task_error", "choice_rank"])
@pytest.mark.parametrize("first", [True, False])
def test_a_figure_that_is_not_a_number_is_never_the_best(figure: str, first: bool, tmp_path: Path) -> None:
    nan, values = float("nan"), {1: 2.0, 2: 3.0, 3: 4.0}
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, value in (values | {1 if first else 2: nan}).items():
            checkpoints.save("likelihood", state_of(step), **({"valid_nats": None} | {figure: value}))
        checkpoints.wait()
        best = checkpoints.best_classifier() if figure == "class_error" else checkpoints.best("likelihood")
        assert best.step == (2 if first else 1)
        assert names(checkpoints) == [f"likelihood/{best.step}", "likelihood/3"]


def test_a_checkpoint_without_validation_is_the_best_only_where_none_was_measured(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: None, 2: None})
    assert checkpoints.best("likelihood").step == 2
    save(checkpoints, "likelihood", {3: 5.0, 4: None})
    assert checkpoints.best("likelihood").step == 3


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("best", 8), ("last", 9), ("likelihood", 2), ("adversarial", 8), ("warmup", 4), ("2", 2), ("9", 9)],
)
def test_a_name_finds_its_checkpoint(checkpoints: Checkpoints, wanted: str, found: int) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    save(checkpoints, "warmup", {4: 0.1})
    save(checkpoints, "adversarial", {8: 1.0, 9: 2.0})
    assert checkpoints.choose(wanted).step == found


def test_the_best_of_a_run_in_its_warm_up_is_the_best_of_its_likelihood_phase(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 0.5, 2: 3.0})
    save(checkpoints, "warmup", {4: 0.1})
    assert checkpoints.choose("best").step == 1


def test_a_name_of_nothing_lists_what_there_is(checkpoints: Checkpoints) -> None:
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        checkpoints.choose("best")
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    with pytest.raises(UserError, match=r"no checkpoint '7'.* of likelihood/1, likelihood/2"):
        checkpoints.choose("7")


def test_the_latest_readable_checkpoint_is_restored_and_each_unreadable_one_is_told_of(checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    save(checkpoints, "warmup", {4: 0.5})
    cut_short(checkpoints, "likelihood", 2)
    cut_short(checkpoints, "warmup", 4)
    heard: list[str] = []
    phase, state = restore_latest_readable(checkpoints, target, heard.append)
    assert (phase, int(state.step)) == ("likelihood", 1)
    assert [line.split(" can't be read (")[0] for line in heard] == ["checkpoint warmup/4", "checkpoint likelihood/2"]
    assert sorted(path.name for path in (checkpoints.folder / "unreadable").iterdir()) == ["likelihood-2", "warmup-4"]


def test_a_checkpoint_of_a_step_that_was_set_aside_can_be_saved_anew(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    for _ in range(2):
        cut_short(checkpoints, "likelihood", 2)
        restore_latest_readable(checkpoints, target, lambda line: None)
        save(checkpoints, "likelihood", {2: 0.25})
    assert checkpoints.choose("2").valid_nats == 0.25
    aside = sorted(path.name for path in (checkpoints.folder / "unreadable").iterdir())
    assert aside == ["likelihood-2", "likelihood-2-1"]


def test_a_checkpoint_that_is_replaced_goes_when_the_other_is_whole(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: None})
    (saved,) = checkpoints.all()
    with checkpoints.replacing(saved):
        checkpoints.save("likelihood", state_of(1), 0.5)
    assert [(saved.step, saved.valid_nats) for saved in checkpoints.all()] == [(1, 0.5)]
    np.testing.assert_array_equal(checkpoints.restore(checkpoints.latest(), target()).generator.params["w"], 11)
    assert not (checkpoints.folder / "likelihood" / "replaced").exists()


@pytest.mark.parametrize("how", ["error", "full", "kill"])
def test_a_checkpoint_that_could_not_be_replaced_is_there_again(
    how: str, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, "likelihood", {1: None})
    (saved,) = checkpoints.all()
    if how == "kill":
        replaced = checkpoints.folder / "likelihood" / "replaced"
        replaced.mkdir()
        (checkpoints.folder / "likelihood" / "1").rename(replaced / "1")
        with Checkpoints(checkpoints.folder, read_only=True) as reader:
            assert reader.all() == []
        with Checkpoints(checkpoints.folder) as resumed:
            assert resumed.all() == [saved]
        return

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def replace() -> None:
        with checkpoints.replacing(saved):
            if how == "error":
                raise RuntimeError
            monkeypatch.setattr(atomic_save, "write_checksums", full)
            checkpoints.save("likelihood", state_of(1), 0.5)

    with pytest.raises(NotSaved if how == "full" else RuntimeError):
        replace()
    assert checkpoints.all() == [saved]
    np.testing.assert_array_equal(checkpoints.restore(saved, target()).generator.params["w"], 11)


def test_where_no_checkpoint_can_be_read_none_is_promised(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0})
    cut_short(checkpoints, "likelihood", 1)
    heard: list[str] = []
    with pytest.raises(UserError, match="none of its 1 checkpoints can be read"):
        restore_latest_readable(checkpoints, target, heard.append)
    assert heard == []
    assert [saved.step for saved in checkpoints.all()] == [1]


def test_a_damaged_validation_figure_makes_a_checkpoint_unreadable_and_no_more(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    (checkpoints.folder / "likelihood" / "2" / "metrics" / "metrics").write_bytes(b"")
    with Checkpoints(checkpoints.folder) as again:
        phase, state = restore_latest_readable(again, target, lambda line: None)
    assert phase == "likelihood"
    assert int(state.step) in (1, 2)


def test_a_generator_that_cannot_be_read_is_told_in_one_line(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {2: 0.5})
    cut_short(checkpoints, "likelihood", 2)
    with Checkpoints(checkpoints.folder, read_only=True) as reader:
        latest, shapes = reader.latest(), target().generator.params
        with pytest.raises(UserError, match=r"^checkpoint \S+/likelihood/2 can't be read \([^\n]+\); name another"):
            reader.restore_part(latest, PARAMS, shapes)


# ---- damage


def flip(path: Path) -> None:
    """One bit, in the middle of the file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


HARMS = {"flip": flip, "cut": cut, "unlink": Path.unlink}


@pytest.mark.parametrize("harm", HARMS)
def test_no_harm_to_any_file_of_a_checkpoint_goes_unnoticed(checkpoints: Checkpoints, harm: str) -> None:
    """Each is found and named, both by who goes on with the run and by who only reads it, or does no harm to what is
    read: Orbax's own note of when the step was written is in no checksum."""
    save(checkpoints, "likelihood", {3: 1.0})
    step = Path(checkpoints.folder) / "likelihood" / "3"
    files = [path for path in sorted(step.rglob("*")) if path.is_file()]
    assert len(files) > 10
    unnamed = []
    for file in files:
        name, before = str(file.relative_to(step)), file.read_bytes()
        HARMS[harm](file)
        found = {}
        for how in ("state", "part"):
            with Checkpoints(checkpoints.folder, read_only=True) as reader:
                try:
                    if how == "state":
                        restored = reader.restore(reader.latest(), target()).generator.params["w"]
                    else:
                        restored = reader.restore_part(reader.latest(), PARAMS, target().generator.params)["w"]
                except UserError as error:
                    found[how] = str(error)
                except Exception as error:
                    found[how] = str(error) if how == "state" else "no user's error"
                else:
                    np.testing.assert_array_equal(restored, 31.0)
                    assert reader.latest().valid_nats == 1.0
        assert "no user's error" not in found.values()
        if not all(name in message for message in found.values()) or len(found) < 2:
            unnamed.append(name)
        file.write_bytes(before)
    assert set(unnamed) <= {"_CHECKPOINT_METADATA", "checksums.json", "commit_success.txt"}


def test_a_flipped_bit_makes_a_run_go_on_from_the_checkpoint_before(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    flip(largest_file(checkpoints, "likelihood", 2))
    heard: list[str] = []
    _, state = restore_latest_readable(checkpoints, target, heard.append)
    assert int(state.step) == 1
    assert re.match(r"checkpoint likelihood/2 can't be read \(default/\S+ has changed since it was written\)", heard[0])


def largest_file(checkpoints: Checkpoints, phase: str, step: int) -> Path:
    files = (Path(checkpoints.folder) / phase / str(step) / "default").rglob("*")
    return max((path for path in files if path.is_file()), key=lambda path: path.stat().st_size)


def test_a_half_deleted_checkpoint_is_not_taken_for_one_without_checksums(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    step = Path(checkpoints.folder) / "likelihood" / "2"
    (step / "checksums.json").unlink()
    with pytest.raises(Damaged, match="its checksums are missing"):
        checkpoints.restore(checkpoints.latest(), target())
    (step / "_CHECKPOINT_METADATA").unlink()
    with Checkpoints(checkpoints.folder) as again:
        _, state = restore_latest_readable(again, target, lambda line: None)
    assert int(state.step) == 1


def test_a_checkpoint_of_a_version_without_checksums_is_read(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {2: 0.5})
    step = Path(checkpoints.folder) / "likelihood" / "2"
    (step / "checksums.json").unlink()
    metadata = json.loads((step / "_CHECKPOINT_METADATA").read_text())
    (step / "_CHECKPOINT_METADATA").write_text(json.dumps(metadata | {"custom_metadata": {}}))
    with Checkpoints(checkpoints.folder, read_only=True) as reader:
        assert int(reader.restore(reader.latest(), target()).step) == 2


def test_what_a_kill_left_over_is_removed_when_the_run_goes_on(checkpoints: Checkpoints) -> None:
    """A save that was not finished, one that should have been deleted, and one that was being deleted."""
    save(checkpoints, "likelihood", {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5})
    folder = Path(checkpoints.folder) / "likelihood"
    shutil.copytree(folder / "4", folder / "5.orbax-checkpoint-tmp")
    shutil.copytree(folder / "3", folder / "deleted" / "1")
    with Checkpoints(checkpoints.folder, keep=1) as again:
        restore_latest_readable(again, target, lambda line: None)
        assert sorted(path.name for path in folder.iterdir()) == ["2", "4"]


def save_and_wait(checkpoints: Checkpoints, state: GanState) -> None:
    checkpoints.save("likelihood", state, 1.0)
    checkpoints.wait()


def test_a_full_disk_is_told_once_and_the_checkpoint_before_stays_the_latest(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk, which does not let bytes be written either."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        save(checkpoints, "likelihood", {1: 3.0})
        big = state_of(2)
        rng = np.random.default_rng(0)
        big = big.replace(generator=Player({"w": jnp.asarray(rng.normal(size=40_000), jnp.float32)}, None))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            with pytest.raises(NotSaved, match="likelihood"):
                save_and_wait(checkpoints, big)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert checkpoints.latest() == Saved("likelihood", 1, 3.0)
        checkpoints.save("likelihood", big, 1.0)
    assert names(Checkpoints(tmp_path / "checkpoints", read_only=True)) == ["likelihood/1", "likelihood/2"]


def test_a_failed_save_is_cleared_until_nothing_of_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorStore goes on with the other files of a save that failed, beside whatever deletes them."""
    part = tmp_path / f"2{atomicity.TMP_DIR_SUFFIX}" / "default" / "ocdbt.process_0"
    waits = iter(range(100))

    def meanwhile(_: float) -> None:
        if next(waits) in (0, 1, 3, 5):
            part.mkdir(parents=True)
            (part / "manifest.ocdbt.__lock").touch()

    (tmp_path / "1").mkdir()
    part.mkdir(parents=True)
    monkeypatch.setattr(atomic_save.time, "sleep", meanwhile)
    discard_unfinished(epath.Path(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert next(waits) > 5


def test_a_folder_may_be_an_epath_and_a_remote_one_stays_as_it_is_named(tmp_path: Path) -> None:
    with Checkpoints(epath.Path(tmp_path) / "checkpoints") as checkpoints:
        save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
        cut_short(checkpoints, "likelihood", 2)
        _, state = restore_latest_readable(checkpoints, target, lambda line: None)
    assert int(state.step) == 1
    assert [path.name for path in (tmp_path / "checkpoints" / "unreadable").iterdir()] == ["likelihood-2"]
    assert str(Checkpoints("gs://bucket/runs/tiny").folder) == "gs://bucket/runs/tiny"


def test_reading_alone_writes_nothing(checkpoints: Checkpoints) -> None:
    save(checkpoints, "likelihood", {1: 3.0, 2: 0.5})
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(checkpoints.folder).rglob("*"))
    with Checkpoints(checkpoints.folder, read_only=True) as reader:
        reader.restore(reader.choose("best"), target())
    assert before == sorted((path, path.stat().st_mtime_ns) for path in Path(checkpoints.folder).rglob("*"))


def test_the_size_of_a_state_counts_each_array_in_bytes() -> None:
    assert state_bytes({"a": jnp.zeros((3, 5)), "b": jnp.zeros(7, jnp.int8)}) == 67
