"""Arrays of other ranks, sizes or types than a function's are refused by name, instead of being broadcast."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import gptgan_jax as gg
from gptgan_jax.config import estimators as configs
from gptgan_jax.estimators.gumbel import conditional_perturbed
from gptgan_jax.gradients import baselines
from gptgan_jax.gradients.policy_gradients import clipped_surrogate, surrogate
from gptgan_jax.objectives import classification, discrimination, likelihood, penalties, rewards
from gptgan_jax.objectives.rewards import Judgement
from gptgan_jax.objectives.shapes import check_arrays

B, T, V, D, K = 4, 3, 5, 2, 6
KEY = jax.random.key(0)
SCORES, MASK = jnp.ones((B, T)), jnp.ones((B, T), bool)
TOKENS, LABEL = jnp.ones((B, T), jnp.int32), jnp.ones(B, jnp.int32)


def experience(**arrays: jax.Array) -> gg.Experience:
    """Two texts for each of two prompts, some of its arrays others."""
    of = {"rewards": SCORES, "mask": MASK, "log_probs": SCORES, "hidden": jnp.ones((B, T, D))} | arrays
    return gg.Experience(gg.Sample(TOKENS, of["mask"], of["log_probs"]), of["rewards"], of["hidden"], 2)


def judged(reward: rewards.Reward) -> Callable[..., jax.Array]:
    """The reward as a function of the judgement's arrays."""

    def of_scores(fake: Any, fake_mask: Any, real: Any, real_mask: Any) -> jax.Array:
        return reward(Judgement(fake, fake_mask, real, real_mask), KEY)

    return of_scores


def judged_classes(reward: rewards.Reward) -> Callable[..., jax.Array]:
    def of_classes(fake_features: Any, real_features: Any, fake_classes: Any, fake_label: Any) -> jax.Array:
        return reward(
            Judgement(SCORES, MASK, SCORES, MASK, fake_features, real_features, fake_classes, fake_label), KEY
        )

    return of_classes


def advantages_of(estimator: gg.PolicyGradient) -> Callable[..., Any]:
    return lambda rewards, mask: estimator.advantages(estimator.init(D), experience(rewards=rewards, mask=mask))


def loss_of(loss: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def of_arrays(log_probs: Any, advantages: Any, mask: Any) -> jax.Array:
        return loss(log_probs, experience(mask=mask), advantages)

    return of_arrays


PAIR: dict[str, jax.Array] = {"real": SCORES, "real_mask": MASK, "fake": SCORES, "fake_mask": MASK}
JUDGED = {"fake": SCORES, "fake_mask": MASK, "real": SCORES, "real_mask": MASK}
CLASSES = {
    "fake_features": jnp.ones((B, D)),
    "real_features": jnp.ones((B, D)),
    "fake_classes": jnp.ones((B, K)),
    "fake_label": LABEL,
}
LOSS = {"log_probs": SCORES, "advantages": SCORES, "mask": MASK}
PAID = {"rewards": SCORES, "mask": MASK}
LOGITS = jnp.ones((B, T, V))
EMBEDDINGS = jnp.ones((B, T, D))


def mean_score(embeddings: jax.Array) -> jax.Array:
    return embeddings.mean(axis=(1, 2))


def learned(returns: Any, mask: Any, hidden: Any) -> Any:
    baseline = gg.learned_value()
    return baseline.value(baseline.init(D), experience(mask=mask, hidden=hidden), returns)


def averaged(returns: Any, mask: Any) -> Any:
    baseline = gg.moving_average()
    return baseline.update(baseline.init(D), experience(mask=mask), returns)


def of_others(returns: Any, mask: Any) -> Any:
    return gg.leave_one_out().value(None, experience(mask=mask), returns)


# By name a function and arrays that it takes.
FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, jax.Array]]] = {
    **{name: (loss, PAIR) for name, loss in discrimination.PAIR_LOSSES.items()},
    "pair_accuracy": (discrimination.pair_accuracy, {"real": jnp.ones(B), "fake": jnp.ones(B)}),
    "prompt_accuracy": (discrimination.prompt_accuracy, {"real": jnp.ones(B), "fake": jnp.ones(B)}),
    **{
        name: (judged(getattr(rewards, name)), JUDGED)
        for name in (
            "sigmoid",
            "logit",
            "log_sigmoid",
            "softplus",
            "penalty",
            "log_ratio",
            "pair_probability",
            "log_pair_probability",
            "random",
        )
    },
    "ranked": (judged(rewards.ranked()), JUDGED),
    "constant": (judged(rewards.constant(1.0)), JUDGED),
    "relative": (judged(rewards.relative(rewards.logit)), JUDGED),
    "mmd": (judged_classes(rewards.mmd()), {name: CLASSES[name] for name in CLASSES}),
    "is_last": (rewards.is_last, {"mask": MASK}),
    "matching_features": (
        judged_classes(classification.matching_features(rewards.logit, 1.0)),
        {name: CLASSES[name] for name in CLASSES},
    ),
    "naming_label": (judged_classes(classification.naming_label(rewards.logit, 1.0)), CLASSES),
    "class_cross_entropy": (
        classification.class_cross_entropy,
        {"classes": jnp.ones((B, K)), "label": LABEL},
    ),
    "class_accuracy": (classification.class_accuracy, {"classes": jnp.ones((B, K)), "label": LABEL}),
    "discounted_returns": (lambda rewards, mask: baselines.discounted_returns(rewards, mask, 0.5), PAID),
    "text_means": (baselines.text_means, {"values": SCORES, "mask": MASK}),
    "learned_value": (learned, {"returns": SCORES, "mask": MASK, "hidden": EMBEDDINGS}),
    "moving_average": (averaged, {"returns": SCORES, "mask": MASK}),
    "leave_one_out": (of_others, {"returns": SCORES, "mask": MASK}),
    "reinforce": (advantages_of(gg.reinforce()), PAID),
    "rollout": (advantages_of(gg.rollout()), PAID),
    "rloo": (advantages_of(gg.rloo(2)), PAID),
    "ppo": (advantages_of(gg.ppo()), PAID),
    "grpo": (advantages_of(gg.grpo(2)), PAID),
    "maligan": (advantages_of(gg.maligan(2)), PAID),
    "weighted_likelihood": (advantages_of(gg.weighted_likelihood(2)), PAID),
    "surrogate": (loss_of(surrogate), LOSS),
    "clipped_surrogate": (loss_of(clipped_surrogate(0.2)), LOSS),
    "gumbel": (
        lambda logits, tokens: gg.gumbel().relax(jnp.int32(0), KEY, logits, tokens),
        {"logits": LOGITS, "tokens": TOKENS},
    ),
    "conditional_perturbed": (
        lambda log_probs, tokens: conditional_perturbed(KEY, log_probs, tokens),
        {"log_probs": LOGITS, "tokens": TOKENS},
    ),
    "penalised": (advantages_of(gg.penalised()), PAID),
    "cot": (gg.cot().loss, {"logits": LOGITS, "mediator": LOGITS, "tokens": TOKENS, "mask": MASK}),
    **{
        name: (
            estimator.loss,
            dict.fromkeys(("real", "reference_real", "written", "reference_written"), jnp.ones(B)),
        )
        for name, estimator in (
            ("spin", gg.spin()),
            ("dgsan", gg.dgsan()),
            ("jsdgan", gg.jsdgan(9)),
            ("self_critic", gg.self_critic()),
        )
    },
    "zero_centred": (lambda embeddings: penalties.zero_centred(mean_score, embeddings), {"embeddings": EMBEDDINGS}),
    "gradient_penalty": (
        lambda real, fake: penalties.gradient_penalty(mean_score, real, fake, KEY),
        {"real": EMBEDDINGS, "fake": EMBEDDINGS},
    ),
    "token_log_probs": (likelihood.token_log_probs, {"logits": LOGITS, "tokens": TOKENS}),
    "cross_entropy": (likelihood.cross_entropy, {"logits": LOGITS, "targets": TOKENS, "mask": MASK}),
    "kl_divergence": (likelihood.kl_divergence, {"logits": LOGITS, "reference_logits": LOGITS}),
    "generalised_jensen_shannon": (
        lambda logits, teacher_logits: likelihood.generalised_jensen_shannon(logits, teacher_logits, 0.5),
        {"logits": LOGITS, "teacher_logits": LOGITS},
    ),
    "top_k_divergence": (
        lambda logits, ids, log_probs: likelihood.top_k_divergence(logits, ids, log_probs, 0.5),
        {
            "logits": LOGITS,
            "ids": jnp.zeros((*LOGITS.shape[:-1], 1), int),
            "log_probs": -jnp.ones((*LOGITS.shape[:-1], 1)),
        },
    ),
    "masked_mean": (likelihood.masked_mean, {"values": SCORES, "mask": MASK}),
    "mean_by_position": (likelihood.mean_by_position, {"values": SCORES, "mask": MASK}),
}
# Arrays that a function does not look at.
UNREAD = {("matching_features", "fake_classes"), ("matching_features", "fake_label"), *(
    ("naming_label", name) for name in ("fake_features", "real_features")
), *(("mmd", name) for name in ("fake_classes", "fake_label"))}  # fmt: skip
# Ranks that a function takes as they are, and sizes that need not agree.
ANY_RANK = (
    "token_log_probs",
    "kl_divergence",
    "generalised_jensen_shannon",
    "top_k_divergence",
    "masked_mean",
    "conditional_perturbed",
)
ANY_SIZE = {
    ("is_last", "mask"), ("pair_accuracy", "real"), ("pair_accuracy", "fake"), ("zero_centred", "embeddings"),
    ("matching_features", "real_features"), ("mmd", "real_features"),
}  # fmt: skip


def changed(function: str, name: str, array: jax.Array) -> Iterator[tuple[str, jax.Array]]:
    """What an argument must not be: of a rank more or less, of another size, of another type."""
    if function not in ANY_RANK or len(FUNCTIONS[function][1]) > 1:
        yield "a dimension more", array[..., None]
        yield "a dimension more in front", array[None]
        yield "a dimension less", array[0]
    if (function, name) not in ANY_SIZE:
        yield "a row more", jnp.concatenate([array, array[:1]])
    if array.dtype == bool:
        yield "an integer mask", array.astype(jnp.int32)
        yield "a mask of floats", array.astype(jnp.float32)
    elif array.dtype == jnp.int32:
        yield "tokens as floats", array.astype(jnp.float32)
    else:
        yield "integers", array.astype(jnp.int32)
        yield "a mask", array.astype(bool)


CASES = [
    pytest.param(function, name, array, id=f"{function}-{name}-{what.replace(' ', '-')}")
    for function, (_, arrays) in FUNCTIONS.items()
    for name in arrays
    if (function, name) not in UNREAD
    for what, array in changed(function, name, arrays[name])
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_a_function_is_documented_to_take_it_takes(function: str) -> None:
    call, arrays = FUNCTIONS[function]
    jax.eval_shape(call, **arrays)
    narrow = {k: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x for k, x in arrays.items()}
    jax.eval_shape(call, **narrow)


@pytest.mark.parametrize(("function", "name", "array"), CASES)
def test_another_rank_size_or_type_is_refused_when_it_is_traced(function: str, name: str, array: jax.Array) -> None:
    call, arrays = FUNCTIONS[function]
    with pytest.raises((TypeError, ValueError)) as caught:
        jax.eval_shape(call, **arrays | {name: array})
    said = str(caught.value)
    assert "\n" not in said
    assert " and should be " in said or "texts" in said, said
    # The first argument that does not fit is named: the one that was changed, or one that it no longer agrees with.
    assert any(f": {other} " in said or " texts" in said for other in (name, *arrays)), said


def test_every_public_function_of_arrays_is_among_them() -> None:
    """Of the modules of losses, rewards and the like; and of the functional API what gives an estimator."""
    modules = (discrimination, rewards, classification, baselines, likelihood)
    public = {
        name
        for module in modules
        for name, value in inspect.getmembers(module, inspect.isfunction)
        if value.__module__ == module.__name__ and not name.startswith("_")
    }
    makers = {"build_pair_loss", "pair_loss_name", "build_reward", "reward_name", "formula", "no_baseline"}
    makers |= {"reads_prefixes", "constant_discount", "matches_features"}  # of a reward, not of arrays
    assert public - makers - FUNCTIONS.keys() == {"entropy"}  # of one array, of any rank
    estimators = {name for name in gg.__all__ if name in dir(configs)}
    assert {name for name in estimators if inspect.isfunction(getattr(gg, name))} - FUNCTIONS.keys() <= {
        "leave_one_out", "moving_average", "no_baseline", "distill", "feature_matching", "guided", "estimator_of",
    }  # fmt: skip


def test_the_message_names_the_function_the_argument_its_shape_and_what_it_should_be() -> None:
    with pytest.raises(ValueError, match=r"relativistic: real is float32 \[4\], and should be float \[B, T\]$"):
        gg.relativistic(jnp.ones(4), jnp.ones(4, bool), jnp.ones((4, 1)), jnp.ones((4, 1), bool))
    expected = r"non_saturating: real_mask is bool \[4\], and should be bool \[B, T\] with B = 4 of real, T = 1 of real"
    with pytest.raises(ValueError, match=expected):
        gg.non_saturating(jnp.ones((4, 1)), jnp.ones(4, bool), jnp.ones((4, 1)), jnp.ones(4, bool))
    with pytest.raises(TypeError, match=r"discounted_returns: mask is int32 \[4, 3\], and should be bool \[B, T\]$"):
        baselines.discounted_returns(SCORES, TOKENS, 1.0)
    with pytest.raises(TypeError, match=r"is_last: mask is a list, and should be bool \[B, T\]"):
        rewards.is_last([[True]])  # type: ignore[arg-type]


def test_a_fixed_size_and_any_number_of_dimensions() -> None:
    check_arrays("f", x=(jnp.ones((2, 3, 5)), "float [..., V]"), y=(jnp.ones((2, 3)), "float [...]"))
    check_arrays("f", x=(jnp.ones((2, 1)), "float [B, 1]"), y=(jnp.float32(0), "float []"))
    for shape, expected in (((2, 2), "float [B, 1]"), ((), "float [..., V]"), ((1,), "float []")):
        with pytest.raises(ValueError, match="should be"):
            check_arrays("f", x=(jnp.ones(shape), expected))
    with pytest.raises(ValueError, match=r"y is float32 \[2\], and should be float \[\.\.\.\] with \.\.\. = \[2, 3\]"):
        check_arrays("f", x=(jnp.ones((2, 3, 5)), "float [..., V]"), y=(jnp.ones(2), "float [...]"))


def test_a_baseline_of_ones_own_whose_value_would_broadcast_along_the_tokens_is_refused() -> None:
    square = gg.Experience(
        gg.Sample(jnp.ones((3, 3), jnp.int32), jnp.ones((3, 3), bool), jnp.ones((3, 3))), jnp.ones((3, 3)), SCORES, 1
    )
    own = gg.no_baseline()._replace(value=lambda state, experience, returns: returns.mean(axis=1))
    with pytest.raises(ValueError, match=r"the baseline's value has the shape \[3\], and should have \[\]"):
        gg.reinforce(1.0, own).advantages(None, square)


def test_the_score_of_a_penalty_is_one_number_a_text() -> None:
    with pytest.raises(ValueError, match=r"scores is float32 \[4, 3\], and should be float \[B\]"):
        penalties.zero_centred(lambda x: x.mean(axis=2), EMBEDDINGS)


def test_texts_that_are_not_as_many_for_each_prompt_are_refused() -> None:
    for estimator in (gg.grpo(3), gg.rloo(3), gg.maligan(3)):
        mine = experience()._replace(samples=3)
        with pytest.raises(ValueError, match="4 texts are not 3 for each prompt"):
            estimator.advantages(estimator.init(D), mine)
    with pytest.raises(ValueError, match=r"grpo: experience.samples is 2, and the estimator's is 4"):
        gg.grpo(4).advantages(None, experience())
    with pytest.raises(ValueError, match="fake has 3 texts, and should have as many for each of 2 real"):
        discrimination.prompt_accuracy(jnp.ones(2), jnp.ones(3))


def test_a_compiled_program_holds_nothing_of_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    def program() -> str:
        return str(jax.make_jaxpr(lambda *x: gg.relativistic(*x))(*PAIR.values()))

    checked = program()
    for module in (discrimination, likelihood):
        monkeypatch.setattr(module, "check_arrays", lambda *_, **__: None)
    assert program() == checked
