"""Divergence from a teacher in parts of the text against all logits at once, in float64 and in PyTorch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close

from gptgan_jax.layers import chunked_likelihood
from gptgan_jax.layers.chunked_likelihood import Teacher, weighted_divergence, weighted_top_k_divergence
from gptgan_jax.objectives.likelihood import generalised_jensen_shannon, top_k_divergence
from gptgan_jax.types import TopK

ROWS, WIDTH, OF_TEACHER, VOCABULARY, TEMPERATURE = 3, 4, 5, 11, 0.7
BETAS = (0.0, 0.1, 0.5, 1.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def divergence(teacher: np.ndarray, student: np.ndarray, beta: float) -> np.ndarray:
    """Of distributions [..., V], by its definition; at the ends, Kullback and Leibler's."""

    def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return (p * np.log(p / q)).sum(axis=-1)

    if beta in (0, 1):
        return kl(teacher, student) if beta == 0 else kl(student, teacher)
    mixed = beta * teacher + (1 - beta) * student
    return beta * kl(teacher, mixed) + (1 - beta) * kl(student, mixed)


def some_logits(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    student, teacher = np.random.default_rng(seed).normal(0, 2, (2, 6, VOCABULARY))
    return student, teacher


@pytest.mark.parametrize("beta", BETAS)
def test_value_and_gradient_are_those_of_the_definition_and_of_pytorch(beta: float) -> None:
    torch = pytest.importorskip("torch")
    student, teacher = some_logits()
    with jax.enable_x64(True):
        found, pull = jax.vjp(lambda x: generalised_jensen_shannon(x, jnp.asarray(teacher), beta), jnp.asarray(student))
        (gradient,) = pull(jnp.ones_like(found))
    np.testing.assert_allclose(found, divergence(softmax(teacher), softmax(student), beta), rtol=1e-10)
    x = torch.tensor(student, requires_grad=True)
    p, q = torch.log_softmax(torch.tensor(teacher), -1), torch.log_softmax(x, -1)
    kl = torch.nn.functional.kl_div
    if beta in (0, 1):
        ours = kl(q, p, reduction="sum", log_target=True) if beta == 0 else kl(p, q, reduction="sum", log_target=True)
    else:
        mixed = torch.log(beta * p.exp() + (1 - beta) * q.exp())
        of_teacher, of_student = (kl(mixed, one, reduction="sum", log_target=True) for one in (p, q))
        ours = beta * of_teacher + (1 - beta) * of_student
    ours.backward()
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_a_token_that_the_teacher_never_takes_adds_the_limit(beta: float) -> None:
    """Of a teacher that is cut to three tokens. KL(student || teacher), beta 1, is then infinite."""
    student, teacher = some_logits()
    cut = np.where(teacher < np.sort(teacher, axis=-1)[:, [-3]], -np.inf, teacher)
    ids = np.argsort(-cut, axis=-1)
    with jax.enable_x64(True):
        named = jax.nn.log_softmax(jnp.take_along_axis(jnp.asarray(cut), jnp.asarray(ids), -1))

        def value_and_gradient(of: Any) -> Any:
            found, pull = jax.vjp(of, jnp.asarray(student))
            return found, *pull(jnp.ones_like(found))

        limit = value_and_gradient(lambda x: generalised_jensen_shannon(x, jnp.maximum(jnp.asarray(cut), -800), beta))
        whole = value_and_gradient(lambda x: generalised_jensen_shannon(x, jnp.asarray(cut), beta))
        of_all = value_and_gradient(lambda x: top_k_divergence(x, jnp.asarray(ids), named, beta))
    if beta == 1:
        assert np.isposinf([whole[0], of_all[0]]).all()
    else:
        assert_trees_close((whole, of_all), (limit, limit), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("beta", "end", "scale"), [(1e-5, 0.0, 1e-5), (1 - 1e-5, 1.0, 1e-5)])
def test_the_ends_are_the_limits_of_what_lies_between(beta: float, end: float, scale: float) -> None:
    student, teacher = some_logits(1)
    with jax.enable_x64(True):
        near, at = (generalised_jensen_shannon(jnp.asarray(student), jnp.asarray(teacher), b) for b in (beta, end))
    np.testing.assert_allclose(near / scale, at, rtol=1e-2)
    assert (
        np.abs(
            divergence(softmax(teacher), softmax(student), 0) - divergence(softmax(teacher), softmax(student), 1)
        ).max()
        > 0.1
    )


@pytest.mark.cases(4)
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("least_rows", [1, 2 * ROWS, 512])
def test_in_parts_value_and_gradients_are_those_of_all_logits(
    least_rows: int, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_likelihood, "LEAST_ROWS", least_rows)
    rng, length = np.random.default_rng(2), 7
    hidden, kernel, bias = (
        rng.normal(size=shape) for shape in ((ROWS, length, WIDTH), (WIDTH, VOCABULARY), VOCABULARY)
    )
    theirs, of_theirs = rng.normal(size=(ROWS, length, OF_TEACHER)), rng.normal(size=(OF_TEACHER, VOCABULARY))
    weights = rng.uniform(0, 1, size=(ROWS, length))
    weights[1, 4:] = 0
    teacher = Teacher(jnp.float32(theirs), jnp.float32(of_theirs), None)

    def found(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        arguments = hidden, kernel, bias, teacher, jnp.float32(weights), beta, TEMPERATURE
        return 3 * weighted_divergence(*arguments, jnp.float32)

    given = [jnp.float32(x) for x in (hidden, kernel, bias)]
    value, gradients = jax.jit(jax.value_and_grad(found, (0, 1, 2)))(*given)
    target = softmax(theirs @ of_theirs / TEMPERATURE)
    wanted = 3 * (weights * divergence(target, softmax((hidden @ kernel + bias) / TEMPERATURE), beta)).sum()
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(found(*given), wanted, rtol=1e-5)
    with jax.enable_x64(True):

        def whole(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
            logits = (hidden @ kernel + bias) / TEMPERATURE
            per_token = generalised_jensen_shannon(logits, jnp.asarray(theirs @ of_theirs) / TEMPERATURE, beta)
            return 3 * (jnp.asarray(weights) * per_token).sum()

        exact = jax.grad(whole, (0, 1, 2))(*(jnp.asarray(x) for x in (hidden, kernel, bias)))
    for one, other in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_never_do_all_logits_lie_in_memory() -> None:
    rows, length, vocabulary = 4, 512, 1000
    shapes = ((rows, length, WIDTH), (WIDTH, vocabulary), (rows, length, OF_TEACHER), (OF_TEACHER, vocabulary))
    hidden, kernel, theirs, of_theirs = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)

    def loss(hidden: jax.Array, kernel: jax.Array, theirs: jax.Array, of_theirs: jax.Array) -> jax.Array:
        teacher = Teacher(theirs, of_theirs, None)
        return weighted_divergence(hidden, kernel, None, teacher, jnp.ones((rows, length)), 0.5, 1.0, jnp.float32)

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, kernel, theirs, of_theirs).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * rows * length * vocabulary


# ---- of a teacher's most likely tokens alone


def most_likely(probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the `count` most likely tokens, and their probabilities."""
    ids = np.argsort(-probabilities, axis=-1)[..., :count]
    return ids, np.take_along_axis(probabilities, ids, -1)


def events(probabilities: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Probabilities of these tokens, and of any other: [..., V] -> [..., K + 1]."""
    named = np.take_along_axis(probabilities, ids, -1)
    return np.concatenate([named, 1 - named.sum(axis=-1, keepdims=True)], axis=-1)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("count", [1, 4, VOCABULARY - 1])
def test_most_likely_tokens_and_all_others_are_the_events_that_are_compared(beta: float, count: int) -> None:
    student, teacher = some_logits()
    ids, named = most_likely(softmax(teacher), count)
    wanted = divergence(events(softmax(teacher), ids), events(softmax(student), ids), beta)
    with jax.enable_x64(True):
        found = top_k_divergence(jnp.asarray(student), jnp.asarray(ids), jnp.asarray(np.log(named)), beta)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert (wanted <= divergence(softmax(teacher), softmax(student), beta) + 1e-12).all()


@pytest.mark.parametrize("beta", BETAS)
def test_all_tokens_in_any_order_are_the_whole_divergence(beta: float) -> None:
    student, teacher = some_logits()
    ids, named = most_likely(softmax(teacher), VOCABULARY)
    with jax.enable_x64(True):
        found, pull = jax.vjp(
            lambda x: top_k_divergence(x, jnp.asarray(ids), jnp.asarray(np.log(named)), beta), jnp.asarray(student)
        )
        whole, pull_whole = jax.vjp(
            lambda x: generalised_jensen_shannon(x, jnp.asarray(teacher), beta), jnp.asarray(student)
        )
        np.testing.assert_allclose(found, whole, rtol=1e-10)
        np.testing.assert_allclose(*(p(jnp.ones_like(found))[0] for p in (pull, pull_whole)), atol=1e-12)


def test_a_teacher_who_names_all_that_is_likely_gives_finite_gradients() -> None:
    logits, ids, log_probs = jnp.asarray([[30.0, 0.0, -30.0]]), jnp.asarray([[0]]), jnp.asarray([[0.0]])
    for beta in BETAS:
        value, pull = jax.vjp(lambda x, beta=beta: top_k_divergence(x, ids, log_probs, beta), logits)
        assert np.isfinite([*value, *pull(jnp.ones(1))[0][0]]).all()


@pytest.mark.parametrize("beta", BETAS)
def test_in_parts_it_is_that_of_all_logits(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_likelihood, "LEAST_ROWS", 6)
    rng, length, count = np.random.default_rng(3), 7, 4
    hidden = rng.normal(size=(ROWS, length, WIDTH))
    kernel, bias = rng.normal(size=(WIDTH, VOCABULARY)), rng.normal(size=VOCABULARY)
    of_teacher, named = most_likely(softmax(rng.normal(0, 2, (ROWS, length, VOCABULARY))), count)
    weights = rng.uniform(size=(ROWS, length))
    top_k = TopK(jnp.asarray(of_teacher, jnp.int32), jnp.asarray(np.log(named), jnp.float32))

    def found(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return weighted_top_k_divergence(hidden, kernel, bias, top_k, jnp.float32(weights), beta, jnp.float32)

    value, gradients = jax.jit(jax.value_and_grad(found, (0, 1, 2)))(*(jnp.float32(x) for x in (hidden, kernel, bias)))
    with jax.enable_x64(True):

        def whole(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
            per_token = top_k_divergence(hidden @ kernel + bias, jnp.asarray(of_teacher), jnp.log(named), beta)
            return (jnp.asarray(weights) * per_token).sum()

        wanted, exact = jax.value_and_grad(whole, (0, 1, 2))(*(jnp.asarray(x) for x in (hidden, kernel, bias)))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    for one, other in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
