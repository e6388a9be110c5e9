"""Rules for which choices of a game go together, for `Game.check` and for configurations (`config.compatibility`).

Rules on data, phases and sizes, which only a configuration has, are in `config.compatibility`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gptgan_jax.gradients.families import (
    Distillation,
    Estimator,
    Mediated,
    Pathwise,
    PolicyGradient,
    SelfPlay,
    matching_of,
    without_discriminator,
)
from gptgan_jax.objectives.discrimination import PairLossName
from gptgan_jax.objectives.likelihood import KlEstimator
from gptgan_jax.objectives.rewards import RewardName
from gptgan_jax.objectives.text_rewards import RewardScaling

CONTROLS: tuple[RewardName, ...] = ("constant", "random")
PENALTIES = ("r1_weight", "r2_weight", "gradient_penalty_weight")
OF_DISCRIMINATOR = (*PENALTIES, "next_token_weight", "mmd_weight", "label_smoothing", "replay_size", "class_weight")
"""Settings that have no effect without a discriminator."""
LOG_ODDS: tuple[PairLossName, ...] = ("non_saturating", "relativistic", "relativistic_tie")
"""Losses whose scores are log-odds; scores of the others are margins, which give no probability."""
NEEDS_LOG_ODDS: tuple[RewardName, ...] = (
    "sigmoid",
    "log_sigmoid",
    "softplus",
    "penalty",
    "log_ratio",
    "pair_probability",
    "log_pair_probability",
)


class Choices(NamedTuple):
    """The input of the rules.

    Attributes:
        estimator: None if it is unknown; rules about it are then skipped.
        estimator_name: its name in messages.
        pair_loss, reward: their names; None for a function of the user's own.
        reads_prefixes: what a reward reads beside the score that it pays, by its names in formulas.
        discount, constant_discount: those of the estimator and of the reward `constant`; None if unknown or none.
        matches_features: whether the reward pays for the likeness of mean features.
        label_smoothing: of the pair loss.
        demonstrations: whether real texts are among those that the generator learns from.
        bounded_slope: whether spectral normalisation bounds the discriminator's slope, or it is the user's own.
        has_second_derivatives: whether penalties on its gradient can be differentiated.
        no_next_token: why the discriminator does not predict the next token, and what to do; None if it does.
        has_classes: whether the discriminator has a logit for each class.
        surprisal: whether the discriminator scores tokens by their surprisal, as a language model.
        window: tokens of the windows that the discriminator scores separately; 0: whole texts.
        representations: number of parts of the embedding that it scores separately.
        no_features: why the generator can't read its features, and what to do; None if it can, or reads none.
        has_goals: whether the generator has a manager that sets goals.
        text_rewards, paying_rewards: number of text rewards, and of those with a weight.
        key: from an attribute of a `Game` to its name in messages, such as a key of a configuration.
        no_demonstrations: the setting that turns demonstrations off, and its value.
        others: as in `Game`.
    """

    estimator: Estimator | None
    estimator_name: str
    pair_loss: PairLossName | None
    reward: RewardName | None
    reads_prefixes: frozenset[str]
    discount: float | None
    constant_discount: float | None
    matches_features: bool
    label_smoothing: float
    dense: bool
    entropy_weight: float
    likelihood_weight: float
    kl_weight: float
    kl_estimator: KlEstimator
    r1_weight: float
    r2_weight: float
    gradient_penalty_weight: float
    next_token_weight: float
    mmd_weight: float
    class_weight: float
    real_fake_weight: float
    replay_size: int
    discriminator_updates: int
    demonstrations: bool
    text_rewards: int
    paying_rewards: int
    reward_scaling: RewardScaling
    discriminator_reward_weight: float
    resample_groups: int
    bounded_slope: bool
    has_second_derivatives: bool
    no_next_token: str | None
    has_classes: bool
    representations: int
    surprisal: bool
    window: int
    no_features: str | None
    has_goals: bool
    key: Callable[[str], str]
    no_demonstrations: tuple[str, str]

    @property
    def penalties(self) -> list[str]:
        """The penalties on the discriminator's gradient that are on."""
        return [name for name in PENALTIES if getattr(self, name)]


def reasons(c: Choices) -> Iterator[str]:
    """Why the choices do not go together, one line each: what is wrong and what would be right. Empty if they do."""
    if without_discriminator(c.estimator):
        yield from _without_discriminator(c)
    if isinstance(c.estimator, SelfPlay):
        yield from _of_self_play(c)
    if isinstance(c.estimator, Mediated):
        yield from _of_mediator(c)
    if isinstance(c.estimator, Distillation):
        yield from _of_distillation(c)
    if matching_of(c.estimator) is not None:
        yield from _of_matching(c)
    if c.no_features is not None:
        yield c.no_features
    yield from _of_scores(c)
    yield from _of_discriminator(c)
    if c.window:
        yield from _of_windows(c)
    if c.surprisal and not without_discriminator(c.estimator) and not isinstance(c.estimator, Mediated):
        yield from _of_surprisal(c)
    yield from _of_classes(c)
    yield from _of_text_rewards(c)
    if isinstance(c.estimator, PolicyGradient):
        yield from _of_policy_gradient(c, c.estimator)
    if isinstance(c.estimator, Pathwise):
        yield from _of_pathwise(c)


def no_discriminator(estimator: Estimator | None) -> str:
    """The start of a message about a setting that an estimator without a discriminator can't use."""
    kinds = {SelfPlay: "by self-play", Distillation: "that distils"}
    kind = kinds.get(type(estimator), "that matches features")
    return f"an estimator {kind} has no discriminator: "


def _without_discriminator(c: Choices) -> Iterator[str]:
    why = no_discriminator(c.estimator)
    if c.pair_loss == "wasserstein":
        yield f"{why}{c.key('pair_loss')} should be non_saturating"
    if c.discriminator_updates > 1:
        yield f"{why}{c.key('discriminator_updates')} should be 1"
    for name in OF_DISCRIMINATOR:
        if getattr(c, name):
            yield f"{why}{c.key(name)} should be 0"


def _of_self_play(c: Choices) -> Iterator[str]:
    if c.reward in CONTROLS:
        yield f"{no_discriminator(c.estimator)}reward {c.reward} would change nothing and is no control of it"
    for name in ("kl_weight", "entropy_weight"):
        if getattr(c, name):
            yield f"self-play is held by its own reference: {c.key(name)} should be 0"
    real = "self-play learns from real text in every step: "
    if c.demonstrations:
        yield f"{real}{' should be '.join(c.no_demonstrations)}"
    if c.likelihood_weight:
        yield f"{real}{c.key('likelihood_weight')} should be 0"


def _of_distillation(c: Choices) -> Iterator[str]:
    if c.reward in CONTROLS:
        yield f"{no_discriminator(c.estimator)}reward {c.reward} would change nothing and is no control of it"
    for name in ("kl_weight", "entropy_weight"):
        if getattr(c, name):
            yield f"a teacher says how likely every token is: {c.key(name)} should be 0"
    if c.demonstrations:
        without = " to ".join(c.no_demonstrations)
        yield f"{c.estimator_name} takes real texts by its on_policy: lower that, and set {without}"


def _of_matching(c: Choices) -> Iterator[str]:
    if c.reward not in ("logit", *CONTROLS, None):
        yield f"{c.estimator_name} pays for features as they are: set {c.key('reward')} to logit, or to a control"
    if c.demonstrations:
        yield (
            f"{c.estimator_name} compares a prompt's texts with its real one; set "
            f"{' to '.join(c.no_demonstrations)} (for real text beside them: {c.key('likelihood_weight')})"
        )
    if c.text_rewards:
        yield f"{c.estimator_name} is paid by features alone: leave {c.key('text_rewards')} out"


def _of_mediator(c: Choices) -> Iterator[str]:
    why = f"{c.estimator_name} has a mediator, a language model, in the discriminator's place: "
    if c.no_next_token is not None:
        yield f"{why}{c.no_next_token}"
    if c.pair_loss == "wasserstein":
        yield f"{why}set {c.key('pair_loss')} to non_saturating"
    for name in OF_DISCRIMINATOR:
        if getattr(c, name):
            yield f"{why}set {c.key(name)} to 0"
    if c.reward in CONTROLS:
        yield f"{why}it pays no reward, and {c.reward} is no control of it; a frozen discriminator is"
    if c.demonstrations:
        yield f"{why}it has read the real texts already; set {' to '.join(c.no_demonstrations)}"
    if c.text_rewards:
        yield f"{why}nothing is paid; leave {c.key('text_rewards')} out"
    if c.kl_weight and c.kl_estimator == "reward":
        yield f"{why}set {c.key('kl_estimator')} to exact or low_variance"


def _of_scores(c: Choices) -> Iterator[str]:
    loss, reward = c.pair_loss, c.reward
    if reward in NEEDS_LOG_ODDS and loss is not None and loss not in LOG_ODDS:
        yield (
            f"{c.key('reward')} {reward} reads the score as log-odds; with {c.key('pair_loss')} {loss} it is a margin: "
            "use reward logit or ranked"
        )
    if reward == "log_ratio" and not c.dense:
        yield f"{c.key('reward')} log_ratio is what a token adds, and with dense false it equals logit; use that"
    if reward == "formula" and c.reads_prefixes and not c.dense:
        yield f"{c.key('reward')} formula of whole texts reads s alone, their score: set {c.key('dense')} to true"
    if reward == "mmd" and c.representations > 1:
        yield f"{c.key('reward')} mmd compares one set of features: set discriminator.representations to 1"
    if c.mmd_weight and reward not in ("mmd", None):
        yield f"{c.key('mmd_weight')} is for {c.key('reward')} mmd: choose that, or set it to 0"
    if loss == "wasserstein" and not c.gradient_penalty_weight and not c.bounded_slope and not c.surprisal:
        yield (
            f"{c.key('pair_loss')} wasserstein needs a discriminator of bounded slope: set "
            f"{c.key('gradient_penalty_weight')} (10 is usual) or discriminator.spectral_norm true"
        )


def _of_windows(c: Choices) -> Iterator[str]:
    why = f"{c.key('window')} judges windows of a text by themselves: "
    if without_discriminator(c.estimator) or isinstance(c.estimator, Mediated):
        yield f"{why}{c.estimator_name} has no discriminator that judges; set it to 0"
        return
    if not c.dense:
        yield f"{why}they are scored at their ends, set {c.key('dense')} to true"
    if c.reward in ("log_ratio", "mmd"):
        yield f"{why}{c.key('reward')} {c.reward} is of whole texts, choose another"
    if "s_prev" in c.reads_prefixes and c.reward == "formula":
        yield f"{why}s_prev of {c.key('reward')} formula is the score of another one, leave it out"
    if c.class_weight:
        yield f"{why}no class is told of one, set {c.key('class_weight')} to 0"


def _of_surprisal(c: Choices) -> Iterator[str]:
    why = "discriminator.surprisal makes the score nats of a language model, "
    if c.no_next_token is not None:
        yield f"{why}which this network is not: it {c.no_next_token}"
    if c.pair_loss in LOG_ODDS:
        yield f"{why}which are no log-odds: set {c.key('pair_loss')} to wasserstein or hinge"
    if isinstance(c.estimator, Pathwise):
        yield f"{why}which no relaxed token has: use an estimator by policy gradients, such as reinforce"
    for name in c.penalties:
        yield f"{why}of tokens and not of embeddings: set {c.key(name)} to 0"
    if c.reward == "mmd":
        yield f"{why}and gives no features: choose another {c.key('reward')} than mmd"
    if c.window:
        yield f"{why}and a window's end has those of one token alone: set {c.key('window')} to 0"
    if c.class_weight:
        yield f"{why}and has no head for classes: set {c.key('class_weight')} to 0"


def _of_discriminator(c: Choices) -> Iterator[str]:
    if c.next_token_weight and c.no_next_token is not None:
        yield f"{c.key('next_token_weight')} {c.no_next_token}"
    if c.representations > 1 and c.dense:
        yield f"discriminator.representations {c.representations} judge whole texts: set {c.key('dense')} to false"
    for name in () if c.has_second_derivatives else c.penalties:
        yield (
            f"{c.key(name)} needs second derivatives, which the kernels of discriminator.attention flash do "
            "not have: set discriminator.attention to dense, or the weight to 0"
        )


def _of_classes(c: Choices) -> Iterator[str]:
    if not c.class_weight and not c.real_fake_weight:
        yield (
            f"{c.key('class_weight')} and {c.key('real_fake_weight')} are both 0: nothing would train the "
            "discriminator, set one of them"
        )
    if c.class_weight and not c.has_classes:
        yield f"{c.key('class_weight')} needs a discriminator with classes: build_discriminator(..., classes=K)"
    if c.class_weight and c.pair_loss not in (None, "non_saturating"):
        yield (
            f"{c.key('class_weight')} gives the discriminator classes: their log-sum-exp is the log-odds of real text, "
            f"set {c.key('pair_loss')} to non_saturating"
        )
    if c.reward == "penalty" and c.has_classes and c.dense and not c.window:
        yield (
            f"{c.key('reward')} penalty reads the class of a text, and a part of one has no class logits: set "
            f"{c.key('dense')} to false"
        )
    for name in (*PENALTIES, "label_smoothing", "mmd_weight") if not c.real_fake_weight else ():
        if getattr(c, name):
            yield f"{c.key('real_fake_weight')} 0 learns from labels alone: set {c.key(name)} to 0"


def _of_text_rewards(c: Choices) -> Iterator[str]:
    rewards = c.key("text_rewards")
    if not c.paying_rewards:
        alone = f"{rewards} has none with a weight: "
        if c.discriminator_reward_weight != 1:
            yield f"{alone}set {c.key('discriminator_reward_weight')} to 1, as that reward is all there is"
        if c.reward_scaling != "none":
            yield f"{alone}{c.key('reward_scaling')} {c.reward_scaling} has nothing to put on one scale; set it to none"
        if c.resample_groups:
            yield f"{alone}{c.key('resample_groups')} looks at what they pay; set it to 0"
    if c.text_rewards and isinstance(c.estimator, Pathwise):
        yield (
            f"{c.estimator_name} differentiates the discriminator, and a function of texts has no gradient: leave "
            f"{rewards} out, or use an estimator by policy gradients, such as reinforce"
        )
    if c.text_rewards and isinstance(c.estimator, SelfPlay | Distillation):
        yield f"{c.estimator_name} learns from likelihoods and is paid nothing: leave {rewards} out"
    if c.resample_groups and isinstance(c.estimator, PolicyGradient) and c.estimator.samples == 1:
        yield (
            f"{c.key('resample_groups')} draws the texts of a prompt again, and {c.estimator_name} writes one: use "
            "several samples (grpo, rloo), or set it to 0"
        )


def _of_policy_gradient(c: Choices, estimator: PolicyGradient) -> Iterator[str]:
    if c.reward in CONTROLS and c.demonstrations:
        without = " to ".join(c.no_demonstrations)
        yield f"{c.key('reward')} {c.reward} is a control only without demonstrations; set {without}"
    if c.reward == "constant" and estimator.weighs_tokens:
        yield (
            f"{c.key('reward')} constant is no control of {c.estimator_name}, which weighs each token by its own "
            f"probability and learns from a constant: set {c.key('reward')} to random"
        )
    if estimator.guided and not c.has_goals:
        yield f"{c.estimator_name} trains a manager's goals, which only a generator of kind leakgan has: choose that"
    if c.reward in CONTROLS and estimator.guided:
        yield f"{c.key('reward')} {c.reward} is no control of {c.estimator_name}; a frozen discriminator is"
    if c.reward == "constant" and not estimator.rollouts:
        yield from _of_constant(c)
    if (estimator.rollouts or estimator.whole_texts) and c.dense:
        yield f"{c.estimator_name} scores whole texts; set {c.key('dense')} to false"
    if estimator.weighs_by is not None:
        yield from _of_weights(c, estimator.weighs_by)
    of_features = {f"{c.key('reward')} mmd": c.reward == "mmd", c.key("matches_features"): c.matches_features}
    for name in [name for name, chosen in of_features.items() if chosen and estimator.rollouts]:
        yield (
            f"{name} compares the texts of a step, and continuations of one text are alike: use an "
            f"estimator without rollouts, such as reinforce, in place of {c.estimator_name}"
        )
    if estimator.rollouts and c.kl_weight and c.kl_estimator == "reward":
        yield (
            f"{c.estimator_name} takes values of tokens, not rewards that add up; "
            f"set {c.key('kl_estimator')} to exact or low_variance"
        )


def _of_constant(c: Choices) -> Iterator[str]:
    discount, own = c.discount, c.constant_discount
    if discount is not None and discount < 1 and (not c.dense or c.window):
        yield (
            f"{c.key('reward')} constant with dense false or a window needs {c.key('discount')} 1: "
            "a discounted end pays for short texts, which is no control"
        )
    elif discount is not None and c.dense and own is not None and own != discount:
        needed = f"{c.key('discount')} {own:g}, not {discount:g}"
        yield f"{c.key('reward')} constant({own:g}) is a control only with {needed}"


def _of_weights(c: Choices, by: RewardName) -> Iterator[str]:
    if c.paying_rewards:
        yield (
            f"{c.estimator_name} weighs texts by what the discriminator says of them: set each weight of "
            f"{c.key('text_rewards')} to 0 (measured alone), or use another estimator"
        )
    if c.reward not in (by, *CONTROLS, None):
        ratio = {"logit": "D/(1 - D)", "log_sigmoid": "D"}[by]
        yield f"{c.estimator_name} weighs texts by {ratio}; set {c.key('reward')} to {by}"
    if c.pair_loss not in ("non_saturating", None) or c.label_smoothing:
        yield (
            f"{c.estimator_name} needs D to be a probability: set {c.key('pair_loss')} to non_saturating and "
            "label_smoothing to 0"
        )
    if c.demonstrations:
        yield (
            f"{c.estimator_name} weighs what the generator wrote against each other; set "
            f"{' to '.join(c.no_demonstrations)}"
        )


def _of_pathwise(c: Choices) -> Iterator[str]:
    if c.demonstrations:
        yield f"{c.estimator_name} has no rewards to give demonstrations; set {' to '.join(c.no_demonstrations)}"
    if c.kl_weight and c.kl_estimator == "reward":
        yield f"{c.estimator_name} has no rewards; set {c.key('kl_estimator')} to exact or low_variance"
