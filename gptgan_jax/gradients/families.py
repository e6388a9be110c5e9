"""Estimators of the generator's gradient: their interfaces.

There are five families. Three use the discriminator: `PolicyGradient` through the log-probabilities of sampled tokens
(`policy_gradients`), `Pathwise` through relaxed tokens (`estimators.gumbel`), and `Mediated` through its next-token
probabilities (`estimators.cot`). Two have none: `SelfPlay`, on log-probabilities of the generator and its reference
(`estimators.spin`), and `Distillation`, with a teacher (`estimators.distillation`). A `PolicyGradient` with a
`Matching` has none either: its rewards come from a frozen copy of the generator. A new estimator is a function that
returns one of these tuples; docs/extending.md has an example.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, cast

from gptgan_jax.errors import suggests_names
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.types import Array, Batch, Guidance, Number, PyTree, Sample, as_tuple

Metrics = dict[str, Array]


@suggests_names
class Experience(NamedTuple):
    """The texts that the generator generated in a step, and their rewards.

    Attributes:
        sample: R texts of T tokens; the N texts of a prompt are neighbours. Its `log_probs` are those of the generator
            before this step's updates, without gradient.
        rewards: float32 [R, T], the reward of each token; only at the last one if whole texts are scored. If the
            estimator has `rollouts`, the estimated value of each token.
        hidden: float [R, T, D], the generator's hidden state from which each token was sampled, without gradient.
        samples: N, texts per prompt. In `loss` with several minibatches, the rows are a subset in any order.
        guidance: what became of the generator's goals, for an estimator that is `guided`: [R, T], without gradient; in
            `loss` differentiable. Otherwise None.

    Example:
        >>> experience.rewards.shape, experience.hidden.shape, experience.samples
        ((2, 3), (2, 3, 4), 2)
    """

    sample: Sample
    rewards: Array
    hidden: Array
    samples: int
    guidance: Guidance | None = None

    def check(self, function: str, **others: tuple[Array, str]) -> None:
        """Checks the arrays that estimators read, and any others given: see `check_arrays`.

        Raises:
            TypeError, ValueError: one has the wrong type or shape; the message names `function` and the argument.
        """
        check_arrays(
            function,
            rewards=(self.rewards, "float [R, T]"),
            mask=(self.sample.mask, "bool [R, T]"),
            **others,
        )

    def check_groups(self, function: str) -> None:
        """Raises ValueError if the rows are not `samples` texts for each prompt."""
        rows = self.sample.mask.shape[0]
        if rows % self.samples:
            raise ValueError(f"{function}: {rows} texts are not {self.samples} for each prompt")


@suggests_names
class Matching(NamedTuple):
    """Rewards without a discriminator: from the features of a text and of a real text, by a frozen generator.

    Attributes:
        depths: relative depths of the generator's layers after which the last token's state is a feature.
        pay: (features of R generated texts [R, L, D], of B real ones [B, L, D], bool [B]: which of them have a token)
            -> (reward of each generated text, float32 [R], metrics).
        stretches: the real batch -> the batch whose prompts are answered and whose targets are the real texts.

    Example:
        >>> matching = gg.feature_matching(samples=3, depths=(1.0,), whitening="none").matching
        >>> paid, _ = matching.pay(jnp.ones((6, 1, 4)), jnp.ones((2, 1, 4)), jnp.array([True, True]))
        >>> paid.shape  # 3 texts for each of 2 prompts
        (6,)
    """

    depths: tuple[float, ...]
    pay: Callable[[Array, Array, Array], tuple[Array, Metrics]]
    stretches: Callable[[Batch], Batch]


@suggests_names
class PolicyGradient(NamedTuple):
    """Score-function estimators: the gradient of log-probabilities, weighted by advantages.

    Attributes:
        init: width of the hidden states -> state, kept in `GanState.estimator`.
        advantages: (state, Experience) -> (advantages float32 [R, T], new state, metrics); called once per step.
        loss: (log_probs float32 [R, T], Experience, advantages) -> float32 []: a surrogate, averaged over texts, of
            which only the gradient is meaningful. `log_probs` are differentiable and 0 outside the mask.
        samples: N, texts generated for each prompt.
        rollouts: continuations of every prefix, whose scores estimate the value of a token; 0: none.
        epochs: passes over the texts of a step.
        minibatches: updates per pass.
        whole_texts: its advantages are those of whole texts, so rewards should be given only at the last token.
        matching: gives rewards in place of the discriminator; None if the discriminator does.
        weighs_by: the reward that its weights are defined for, "logit" or "log_sigmoid"; None: any.
        weighs_tokens: whether the loss weights a token by its own probability, so that a constant reward also teaches.
        guided: whether it reads `Experience.guidance`, which only a generator with goals gives.
        discount: of later rewards, per token, in its returns; None: it has none, or it is unknown.

    Example:
        >>> estimator = gg.reinforce()
        >>> log_probs = jnp.full((2, 3), -1.0)
        >>> estimator.loss(log_probs, experience, advantages=jnp.ones((2, 3)))  # 5 tokens in 2 texts
        Array(2.5, dtype=float32)
    """

    init: Callable[[int], PyTree]
    advantages: Callable[[PyTree, Experience], tuple[Array, PyTree, Metrics]]
    loss: Callable[[Array, Experience, Array], Array]
    samples: int = 1
    rollouts: int = 0
    epochs: int = 1
    minibatches: int = 1
    whole_texts: bool = False
    matching: Matching | None = None
    weighs_by: Literal["logit", "log_sigmoid"] | None = None
    weighs_tokens: bool = False
    guided: bool = False
    discount: Number | None = None


@suggests_names
class Pathwise(NamedTuple):
    """Estimators that differentiate the score itself, through continuous relaxations of the tokens.

    Attributes:
        init: width of the hidden states -> state.
        relax: (state, key, logits float32 [R, T, V], tokens int32 [R, T]) -> float32 [R, T, V], which the discriminator
            reads in place of the tokens sampled from those logits; differentiable in the logits.
        advance: state -> (state of the next step, metrics).

    Example:
        >>> estimator = gg.gumbel(temperature=0.5)
        >>> estimator.init(4), isinstance(estimator, gg.Pathwise)
        (Array(0, dtype=int32), True)
    """

    init: Callable[[int], PyTree]
    relax: Callable[[PyTree, Array, Array, Array], Array]
    advance: Callable[[PyTree], tuple[PyTree, Metrics]]


@suggests_names
class Mediated(NamedTuple):
    """Estimators with a mediator, a language model of real and generated text.

    The mediator is the discriminator's Transformer, which learns the next tokens of both in equal shares, and no score.

    Attributes:
        init: width of the hidden states -> state.
        loss: (logits, mediator's logits, float32 [R, T, V] at the same prefixes, tokens int32 [R, T], mask bool [R, T])
            -> (float32 [], metrics), averaged over texts; differentiable in the first.

    Example:
        >>> logits = generator.logits(params, batch)
        >>> loss, metrics = gg.cot().loss(logits, logits, batch.target, batch.target_mask)
        >>> float(loss)  # the mediator is the generator
        0.0
    """

    init: Callable[[int], PyTree]
    loss: Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]


@suggests_names
class SelfPlay(NamedTuple):
    """Estimators without a discriminator: real text against text from an earlier generator, the reference.

    Attributes:
        init: width of the hidden states -> state.
        loss: (real, real under the reference, generated, generated under the reference), log-probabilities float32 [B]
            of whole texts -> (float32 [], metrics).
        refresh: state -> (new state, bool []: whether the current generator becomes the reference before this step).
        writes: whether the loss uses texts generated by the reference; if not, it is given the real ones twice.

    Example:
        >>> estimator = gg.spin(refresh_every=2)
        >>> step, refreshes = estimator.refresh(estimator.init(4))
        >>> int(step), bool(refreshes)
        (1, True)
    """

    init: Callable[[int], PyTree]
    loss: Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]
    refresh: Callable[[PyTree], tuple[PyTree, Array]]
    writes: bool = True


@suggests_names
class Distillation(NamedTuple):
    """Estimators without a discriminator that learn a teacher's next-token distributions.

    Attributes:
        init: width of the hidden states -> state.
        beta: of the divergence between teacher and student; see `likelihood.generalised_jensen_shannon`.
        on_policy: share of the texts that the student generates; the others are the batch's.

    Example:
        >>> estimator = gg.distill(beta=0.0, on_policy=0.5)
        >>> isinstance(estimator, gg.Distillation), estimator.on_policy
        (True, 0.5)
    """

    init: Callable[[int], PyTree]
    beta: float
    on_policy: float


Estimator = PolicyGradient | Pathwise | Mediated | SelfPlay | Distillation


class PolicyGradientProtocol(Protocol):
    """What a score-function estimator must have; the numbers of `PolicyGradient` are optional.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.rloo(samples=4)._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(generator, discriminator, estimator=own, **optimizers)
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def advantages(self) -> Callable[[PyTree, Experience], tuple[Array, PyTree, Metrics]]: ...
    @property
    def loss(self) -> Callable[[Array, Experience, Array], Array]: ...


class PathwiseProtocol(Protocol):
    """What an estimator through relaxed tokens must have, as described in `Pathwise`.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.gumbel()._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(generator, discriminator, estimator=own, **optimizers)
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def relax(self) -> Callable[[PyTree, Array, Array, Array], Array]: ...
    @property
    def advance(self) -> Callable[[PyTree], tuple[PyTree, Metrics]]: ...


class SelfPlayProtocol(Protocol):
    """What an estimator without a discriminator must have, as described in `SelfPlay`.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.spin()._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(generator, discriminator, estimator=own, **optimizers)
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def loss(self) -> Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]: ...
    @property
    def refresh(self) -> Callable[[PyTree], tuple[PyTree, Array]]: ...


class MediatedProtocol(Protocol):
    """What an estimator with a mediator must have, as described in `Mediated`. With a `refresh` too it is a `SelfPlay`.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.cot()._asdict())  # or a class of one's own
        >>> type(gg.estimator_of(own)).__name__
        'Mediated'
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def loss(self) -> Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]: ...


class DistillationProtocol(Protocol):
    """What an estimator with a teacher must have, as described in `Distillation`.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.distill(beta=0.2)._asdict())  # or a class of one's own
        >>> gg.estimator_of(own).beta
        0.2
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def beta(self) -> float: ...
    @property
    def on_policy(self) -> float: ...


EstimatorProtocol = (
    PolicyGradientProtocol | PathwiseProtocol | MediatedProtocol | SelfPlayProtocol | DistillationProtocol
)


@suggests_names
def estimator_of(parts: Estimator | EstimatorProtocol) -> Estimator:
    """An object's functions as an estimator tuple; anything else is returned as it is, for `Game.check` to report.

    Example:
        >>> from types import SimpleNamespace
        >>> type(gg.estimator_of(SimpleNamespace(**gg.gumbel()._asdict()))).__name__
        'Pathwise'
    """
    # The first that fits is used. `Mediated` is last, as a `SelfPlay` has its functions too.
    families = PolicyGradient, Pathwise, SelfPlay, Distillation, Mediated
    found = (
        parts
        if isinstance(parts, families)
        else next((made for family in families if (made := as_tuple(family, parts)) is not parts), parts)
    )
    return cast(Estimator, found)


def matching_of(estimator: Estimator | None) -> Matching | None:
    """The estimator's `Matching`, which gives rewards in place of a discriminator; None if it has none."""
    return estimator.matching if isinstance(estimator, PolicyGradient) else None


def without_discriminator(estimator: Estimator | None) -> bool:
    """Whether an estimator uses no discriminator; an unknown one is assumed to use it."""
    return isinstance(estimator, SelfPlay | Distillation) or matching_of(estimator) is not None
