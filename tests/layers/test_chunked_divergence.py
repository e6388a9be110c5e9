"""Divergence from a teacher in parts of the text against all logits at once, in float64 and in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.layers import chunked_likelihood
from gptgan_jax.layers.chunked_likelihood import Teacher, weighted_divergence
from gptgan_jax.objectives.likelihood import generalised_jensen_shannon

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
