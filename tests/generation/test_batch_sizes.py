"""No more rows are computed than are asked for or have room, and how many they are changes no text and no figure."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment

from gptgan_jax.evaluation.subject import GeneratorModel, Subject
from gptgan_jax.generation import batch_sizes as sizes
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.pace import News
from gptgan_jax.generation.texts import _SAMPLE_STREAM, Drawing, TextWriter
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.sampling.decoding import sample
from gptgan_jax.sampling.rollouts import resample
from gptgan_jax.training.loop import train
from gptgan_jax.types import Params

SEED = 3
LENGTH = 6
LIKELIHOOD_ALONE: dict[str, Any] = {
    "likelihood.steps": 4,
    "continued.steps": 0,
    "warmup.steps": 0,
    "adversarial.steps": 0,
    "evaluation.every": 4,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, RunFolder]:
    experiment, folder = tiny_experiment(tmp_path_factory.mktemp("sizes"), LIKELIHOOD_ALONE)
    train(experiment, folder, lambda line: None)
    return experiment, folder


@pytest.fixture(scope="module")
def params(trained: tuple[Experiment, RunFolder]) -> Params:
    return load_params(trained[1], load_writer(trained[1]))[0]


@pytest.mark.parametrize(
    ("batch_size", "count", "logits", "rows"),
    [
        (100, 1, 1, 1),
        (100, 8, 1, 8),
        (100, 1000, 1, 100),
        (100, 0, 1, 1),
        (100, 1000, 64 * 49_152, 20),  # of 256 MB, 20.3
        (64, 1000, 64 * 49_152, 16),  # which 8 devices can share
        (97, 1000, 64 * 49_152, 20),  # no divisor is near
        (100, 8, 64 * 49_152, 8),
        (100, 1000, 10**12, 1),
    ],
)
def test_as_many_as_asked_for_and_as_have_room(batch_size: int, count: int, logits: int, rows: int) -> None:
    assert rows_at_once(batch_size, count, logits) == rows
    assert rows == 1 or 4 * rows * logits <= sizes.LOGITS_BYTES


def with_room_for(rows: int, logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "LOGITS_BYTES", 4 * rows * logits)


def computed(experiment: Experiment, counts: list[int], **options: Any) -> TextWriter:
    """A writer that notes how many rows each part has."""

    def noting(params: Params, key: jax.Array, prompt: jax.Array, *rest: Any, **more: Any) -> Any:
        jax.debug.callback(lambda: counts.append(prompt.shape[0]))
        return sample(experiment.generator, params, key, prompt, *rest, **more)

    return TextWriter(experiment.generator, experiment.tokenizer, LENGTH, 100, noting, **options)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("count", "parts"), [(1, [1]), (8, [8]), (100, [100]), (130, [100, 100])])
def test_a_few_texts_are_a_small_batch_and_the_first_of_a_large_one(
    trained: tuple[Experiment, RunFolder], params: Params, count: int, parts: list[int]
) -> None:
    """To the token: equal seeds go on writing what they wrote when a whole batch was computed."""
    experiment, counts = trained[0], []
    written = computed(experiment, counts)(params, SEED, count, Drawing(0.9))
    jax.effects_barrier()
    assert counts == parts
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(SEED), _SAMPLE_STREAM), 0)
    prompt = np.full((100, 1), experiment.generator.vocabulary.bos_id, np.int32)
    whole = jax.jit(functools.partial(sample, experiment.generator), static_argnames="length")(
        params, key, prompt, np.ones_like(prompt, bool), length=LENGTH, temperature=0.9
    )
    np.testing.assert_array_equal(written.tokens[:100], np.asarray(whole.tokens)[:count])
    nats = np.asarray(whole.log_probs, np.float64).sum(axis=1)[:count]
    np.testing.assert_allclose(written.log_probs[:100], nats, rtol=1e-5)


@pytest.mark.cases(1)
@pytest.mark.parametrize("room", [7, 40])
def test_parts_of_a_batch_are_what_the_batch_is(
    trained: tuple[Experiment, RunFolder], params: Params, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With prompts in turn; 7 divides no batch of 100, so that the last part of one is filled up."""
    experiment, counts = trained[0], []
    prompts = [[5], [6, 7], [8]]
    whole = computed(experiment, [])(params, SEED, 120, Drawing(), prompts)
    with_room_for(room, experiment.generator.vocabulary.size, monkeypatch)
    parts = computed(experiment, counts)(params, SEED, 120, Drawing(), prompts)
    jax.effects_barrier()
    assert set(counts) == {rows_at_once(100, 120, experiment.generator.vocabulary.size)}
    assert max(counts) <= room
    assert parts.texts == whole.texts
    np.testing.assert_array_equal(parts.tokens, whole.tokens)
    np.testing.assert_allclose(parts.log_probs, whole.log_probs, rtol=1e-5)


def test_so_are_parts_of_texts_that_are_chosen_among_candidates(
    trained: tuple[Experiment, RunFolder], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = trained[0]
    generator, size = experiment.generator, experiment.generator.vocabulary.size

    def sampler(params: Params, *rest: Any, **options: Any) -> Any:
        energy = lambda tokens, mask: mask.sum(axis=1) * 0.5 + (tokens[:, 0] % 3)  # noqa: E731
        return resample(generator, params, energy, *rest, candidates=4, **options)

    def write(count: int) -> list[str]:
        writer = TextWriter(generator, experiment.tokenizer, LENGTH, 12, sampler, candidates=4)
        return writer(params, SEED, count, Drawing()).texts

    whole = write(20)
    assert len(set(whole)) > 5
    assert write(5) == whole[:5]
    with_room_for(3, 4 * size, monkeypatch)
    assert write(20) == whole


def test_held_out_likelihood_is_the_same_in_batches_that_have_room(
    trained: tuple[Experiment, RunFolder], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of few texts no more than those are computed."""
    subject = Subject(trained[1], lambda line: None)
    shapes: list[tuple[int, ...]] = []
    likelihood_on = subject.likelihood_on

    def noting(params: Params, batches: Any, drawing: Drawing) -> Any:
        kept = list(batches)
        shapes.append(kept[0].target.shape)
        return likelihood_on(params, kept, drawing)

    subject.likelihood_on = noting
    model, split = GeneratorModel(subject, params), subject.text.test
    whole = model.likelihood(split, Drawing(0.8))
    assert shapes[-1] == (min(8, len(split)), split.max_length)
    few = model.likelihood(split.subset(np.arange(3)), Drawing(0.8))
    assert shapes[-1] == (3, split.max_length)
    np.testing.assert_allclose(few.nats, whole.nats[:3], rtol=1e-6)
    with_room_for(2, split.max_length * split.vocabulary.size, monkeypatch)
    parts = model.likelihood(split, Drawing(0.8))
    assert shapes[-1] == (2, split.max_length)
    np.testing.assert_allclose(parts.nats, whole.nats, rtol=1e-6)
    np.testing.assert_array_equal(parts.tokens, whole.tokens)


def test_validation_on_the_way_is_the_same_in_batches_that_have_room(
    trained: tuple[Experiment, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, folder = tiny_experiment(tmp_path, LIKELIHOOD_ALONE)
    with_room_for(3, LENGTH * experiment.generator.vocabulary.size, monkeypatch)
    train(experiment, folder, lambda line: None)
    ours, theirs = (
        [line["valid_nats_per_token"] for line in read_metrics(one.path) if "valid_nats_per_token" in line]
        for one in (folder, trained[1])
    )
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_news_comes_now_and_then_and_not_of_what_is_done_soon() -> None:
    now, said = [0.0], []
    news = News(said.append, seconds=10, clock=lambda: now[0])
    for done in range(0, 500, 100):
        news("likelihood", done, 500)
        now[0] += 6
    for done in range(0, 300, 100):
        news("sampling", done, 300)
        now[0] += 4
    assert said == ["likelihood: 200 of 500", "likelihood: 400 of 500"]
