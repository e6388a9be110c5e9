"""The arrays that travel: what the data gives, what the sampler writes, what training carries.

Dimensions: B batch, P prompt length, T target length. Masks are bool, true where a token counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from gptgan_jax.errors import suggests_names

PyTree = Any
Params = Any
Array = jax.Array
Number = float | Array
"""A hyper-parameter: a number, or an array of no dimensions, which JAX may be tracing (`jax.vmap` over rates)."""


def as_tuple(kind: Any, parts: Any) -> Any:
    """A named tuple of an object's attributes; the object itself where it lacks one that has no default."""
    if all(hasattr(parts, name) for name in kind._fields if name not in kind._field_defaults):
        return kind(**{name: getattr(parts, name) for name in kind._fields if hasattr(parts, name)})
    return parts


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a parameter from its place in a tree, as `jax.tree_util` gives it: trunk/embedding/table."""
    return "/".join(str(getattr(part, "key", part)) for part in path)


@suggests_names
@dataclass(frozen=True)
class Vocabulary:
    """How many token ids there are and which of them are special.

    Attributes:
        size: number of ids, V; every id is in [0, V).
        pad_id: fills the positions that a mask excludes; its value never matters.
        bos_id: the one-token prompt of unconditional text, and the first input of a decoder with an encoder.
        eos_id: ends a text and is counted as part of it; None where every text fills the whole target length.
        other_ends: ids that end a generated text as well, such as the end of a turn.
        begins_prompts: whether BOS stands before each prompt. Where it does not, as in models without a beginning of
            text, it is the prompt where there is no other.

    Example:
        >>> gg.Vocabulary(size=8).ends, gg.Vocabulary(size=8, eos_id=None).ends
        ((2,), ())
        >>> vocabulary.begun([3, 4])
        [1, 3, 4]
    """

    size: int
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int | None = 2
    other_ends: tuple[int, ...] = ()
    begins_prompts: bool = True

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end a text, EOS first; none where every text fills the whole target length."""
        return self.other_ends if self.eos_id is None else (self.eos_id, *self.other_ends)

    def check(self) -> None:
        """Raises ValueError where there is no id, or a special one is not among those that there are."""
        if self.size < 1:
            raise ValueError(f"a vocabulary of size {self.size} has no ids; it should have at least one")
        named = {"pad_id": self.pad_id, "bos_id": self.bos_id, "eos_id": self.eos_id}
        for name, value in (*named.items(), *(("other_ends", end) for end in self.other_ends)):
            if value is not None and not 0 <= value < self.size:
                raise ValueError(f"{name} {value} is none of the vocabulary's ids, which are 0 to {self.size - 1}")

    def begun(self, prompt: Sequence[int]) -> list[int]:
        """A prompt's token ids with BOS before them, where that belongs there."""
        return [self.bos_id, *prompt] if self.begins_prompts or not prompt else list(prompt)


class Packed(struct.PyTreeNode):
    """What the generator reads where a row of a batch holds several documents, or a part of one.

    Attributes:
        inputs: int32 [B, T], what stands before each target token: BOS before the first of a document, else the token
            before it, which for the first token of a row may be of the row before.
        segments: int32 [B, T], from 1 on; tokens attend to those before them of equal number, and positions count
            anew in each. 0 is padding.
    """

    inputs: Array
    segments: Array


class Batch(struct.PyTreeNode):
    """Real text. Prompts are padded on the left, targets on the right, so that a prompt ends where its target begins.

    Every prompt holds at least one token: BOS, where nothing else is in it.

    Attributes:
        prompt: int32 [B, P]; unconditional text has P = 1 and BOS.
        prompt_mask: bool [B, P].
        target: int32 [B, T], ending in EOS where the text is shorter than T.
        target_mask: bool [B, T]; covers EOS, not what comes after it.
        label: int32 [B], the class of the text; -1 where it has none.
        packed: for likelihood training on packed rows, whose prompts count for nothing; None: a row is a text.
        rows: int32 [B], which document of the training text each is, where a reward function looks others of its
            columns up; else None.

    Example:
        >>> batch.target.shape, batch.prompt.shape
        ((2, 3), (2, 1))
        >>> batch.target_mask.sum(axis=1)  # tokens of each text, EOS included
        Array([3, 2], dtype=int32)
    """

    prompt: Array
    prompt_mask: Array
    target: Array
    target_mask: Array
    label: Array
    packed: Packed | None = None
    rows: Array | None = None


@suggests_names
def unconditional_batch(target: Array, vocabulary: Vocabulary) -> Batch:
    """A batch of texts without prompts.

    Args:
        target: int32 [B, T]; a text ends with its first EOS, or fills the row.
        vocabulary: of the ids.

    Raises:
        ValueError: another shape, or an id that the vocabulary does not have.

    Example:
        >>> gg.unconditional_batch(jnp.array([[3, 2, 0], [4, 5, 6]]), vocabulary).target_mask
        Array([[ True,  True, False],
               [ True,  True,  True]], dtype=bool)
    """
    if jnp.ndim(target) != 2:
        raise ValueError(f"target should be int [B, T], a text a row, and has the shape {list(jnp.shape(target))}")
    target = jnp.asarray(target, jnp.int32)
    if not isinstance(target, jax.core.Tracer) and target.size:
        least, most = int(target.min()), int(target.max())
        if least < 0 or most >= vocabulary.size:
            wrong = least if least < 0 else most
            raise ValueError(f"target holds the id {wrong}; the vocabulary's are 0 to {vocabulary.size - 1}")
    rows = target.shape[0]
    mask = jnp.ones(target.shape, bool)
    if vocabulary.eos_id is not None:
        is_eos = target == vocabulary.eos_id
        mask = jnp.cumsum(is_eos, axis=1) - is_eos == 0
    prompt = jnp.full((rows, 1), vocabulary.bos_id, jnp.int32)
    return Batch(prompt, jnp.ones((rows, 1), bool), target, mask, jnp.full(rows, -1, jnp.int32))


class Sample(struct.PyTreeNode):
    """Text that a generator wrote.

    Attributes:
        tokens: int32 [B, T]; pad_id after EOS.
        mask: bool [B, T]; covers EOS, not what comes after it.
        log_probs: float32 [B, T], log-probability in nats of each token under the distribution it was drawn from
            (temperature, top-k and top-p included); 0 outside the mask.

    Example:
        >>> written = gg.sample(generator, params, key, batch.prompt, batch.prompt_mask, length=5)
        >>> written.tokens.shape, written.log_probs.shape
        ((2, 5), (2, 5))
    """

    tokens: Array
    mask: Array
    log_probs: Array


class Scores(struct.PyTreeNode):
    """What a discriminator says of texts, as logits: positive means "real".

    Attributes:
        tokens: float32 [B, T]; entry t scores the text up to and including token t.
        sequence: float32 [B], the judgement at the last token, that is of the whole text; of surprisals their mean.
        classes: float32 [B, K], logits of the classes of the whole text, whose log-sum-exp the judgement then is; None
            where the discriminator has no classes.
        features: float32 [B, W], what the judgement or those logits are a linear function of; None where the
            discriminator has several representations.
        parts: float32 [B, S], of the whole text by each of S representations, whose mean `sequence` is; None where the
            discriminator has one.

    Example:
        >>> scores = discriminator.scores(scorer, batch)
        >>> bool(scores.sequence[0] == scores.tokens[0, 2]), scores.classes is None
        (True, True)
    """

    tokens: Array
    sequence: Array
    classes: Array | None = None
    features: Array | None = None
    parts: Array | None = None

    @property
    def texts(self) -> Array:
        """Of whole texts, float32 [B, S]: a column for each representation, or one."""
        return self.sequence[:, None] if self.parts is None else self.parts


class Player(struct.PyTreeNode):
    """One network with its optimiser.

    Attributes:
        params: what learns.
        opt_state: the optimiser's.
        ema: an exponential moving average of the parameters, which is then what is evaluated and kept; None where there
            is none.

    Example:
        >>> state.generator.ema is None, state.generator.averaged is state.generator.params
        (True, True)
    """

    params: Params
    opt_state: PyTree
    ema: Params | None = None

    @property
    def averaged(self) -> Params:
        """The average where there is one, else the parameters."""
        return self.params if self.ema is None else self.ema


class Replay(struct.PyTreeNode):
    """Generated texts of earlier steps, the oldest overwritten first.

    Attributes:
        texts: Batch of S rows.
        written: int32 [], texts put in so far; those beyond the first S stand in place of older ones.
    """

    texts: Batch
    written: Array


class GanState(struct.PyTreeNode):
    """All that training carries and all that a checkpoint holds.

    Attributes:
        step: int32 [], updates made since `init`.
        key: typed PRNG key []; never changes, each step folds its own number in.
        begun: int32 [], the step at which this phase began.
        generator: Player.
        discriminator: Player.
        estimator: the estimator's own state, such as a moving-average baseline.
        reference: the generator's parameters when this phase began, for the KL penalty, or those of its opponent in
            self-play; None where neither is used.
        replay: texts of earlier steps for the discriminator; None where it sees fresh ones alone.
        teacher: the parameters of whom the generator is distilled from, which no step changes and no checkpoint holds;
            None where there is none.
        skipped: int32 [], how many steps in a row were left out until now; see `algorithms.guards`. None where a
            state was put together by hand.

    Example:
        >>> int(state.step), gg.parameter_count(state.generator.params), gg.parameter_count(state.discriminator.params)
        (0, 216, 37)
    """

    step: Array
    key: Array
    begun: Array
    generator: Player
    discriminator: Player
    estimator: PyTree
    reference: Params | None
    replay: Replay | None = None
    skipped: Array | None = None
    teacher: Params | None = None
