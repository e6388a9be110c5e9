"""The residual model: text of the likelihood model, resampled by a discriminator trained against real text.

From N texts of the generator's p one is chosen in proportion to exp(s), with the discriminator's logit s:

    q(x) = N p(x) E[exp(s(x)) / (exp(s(x)) + the sum of exp(s) of N - 1 other texts of p)]

which tends to p(x) exp(s(x)) / Z as N grows (Deng et al. 2020, https://arxiv.org/abs/2004.11714). The mean is estimated
from texts of p, so the likelihood is known up to that estimate. Only for text without prompts, as the mean differs for
every prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.algorithms.compatibility import LOG_ODDS
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.data.encoding import Ragged
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.texts import Drawing, TextWriter, Written
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.runs.trained import Writer, restore_discriminator, restore_generator
from gptgan_jax.sampling.residual import energy_by
from gptgan_jax.sampling.rollouts import resample
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.types import Array, Params, Sample

# Number of "other" texts of p: the likelihood is off by about 0.01 nats per text if exp(s) varies by its mean.
OTHERS = 8000
# Number of random splits of them into groups of N - 1: more lower the error of the mean, and only cost time.
_PARTINGS = 4
# A random stream of its own: the others are different from the texts that are evaluated.
_OTHERS_STREAM = 0x5A
# Numbers that are compared at once.
_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class Networks:
    """Both players and their parameters.

    Attributes:
        generator, params, discriminator, discriminator_params: the networks, each with its parameters.
        constant: the control: every text has the same energy, and the model is the generator.
    """

    generator: Generator
    params: Params
    discriminator: Discriminator
    discriminator_params: Params
    constant: bool = False

    @property
    def both(self) -> tuple[Params, Params]:
        """The generator's parameters and the discriminator's."""
        return self.params, self.discriminator_params

    def energy(self, scorer: Params, tokens: Array, mask: Array) -> Array:
        """The discriminator's logit of whole texts without prompts: int32 [R, T], bool [R, T] -> float32 [R]."""
        if self.constant:
            return jnp.zeros(tokens.shape[0])
        return energy_by(self.discriminator, self.generator.vocabulary)(scorer, tokens, mask)


def restore_networks(checkpoints: Checkpoints, saved: Saved, run: Writer) -> Networks:
    """Both players of a checkpoint.

    Raises:
        UserError: the checkpoint can't be read, or the discriminator's scores are not log-odds.
    """
    config, generator = run.config, run.generator
    if config.objective.pair_loss not in LOG_ODDS:
        raise UserError(f"a discriminator trained by {config.objective.pair_loss} gives no log-odds to resample by")
    discriminator = run.discriminator
    params = restore_generator(checkpoints, saved, config, generator)
    scorer = restore_discriminator(checkpoints, saved, config, discriminator)
    return Networks(generator, params, discriminator, scorer, config.objective.reward == "constant")


class ResidualModel:
    """Generates texts of the residual model and gives their likelihood."""

    def __init__(
        self,
        networks: Networks,
        tokenizer: AnyTokenizer,
        length: int,
        candidates: int,
        seed: int,
        batch_size: int = 100,
    ) -> None:
        """`candidates` is the number of texts that each one is chosen from."""
        self._networks = networks
        self._seed = seed
        self._length = length
        self._batch_size = batch_size
        self._energy: Callable[..., Array] = jax.jit(networks.energy)
        self._plain = TextWriter(networks.generator, tokenizer, length, batch_size)
        sampler = resampler(networks, candidates)
        self._resampled = TextWriter(networks.generator, tokenizer, length, batch_size, sampler, candidates)
        self._candidates = candidates
        self._others: dict[Drawing, np.ndarray] = {}

    def write(self, count: int, drawing: Drawing) -> Written:
        """`count` texts from the seed, and their log-probabilities; the proposals are drawn as `drawing` says."""
        networks = self._networks
        written = self._resampled(networks.both, self._seed, count, drawing)
        gained = self._gained(written.tokens, written.mask, drawing)
        return replace(written, log_probs=written.log_probs + gained)

    def likelihood(self, held_out: HeldOut, targets: Ragged, drawing: Drawing) -> HeldOut:
        """The model's likelihood of texts.

        Args:
            held_out: the generator's likelihood of them, at the same drawing.
            targets: the texts, in the same order.
            drawing: how the proposals are drawn.
        """
        tokens = np.full((len(targets), self._length), self._networks.generator.vocabulary.pad_id, np.int32)
        mask = np.arange(self._length) < np.diff(targets.offsets)[:, None]
        tokens[mask] = targets.tokens
        return HeldOut(held_out.nats - self._gained(tokens, mask, drawing), held_out.tokens, held_out.sources)

    def _gained(self, tokens: np.ndarray, mask: np.ndarray, drawing: Drawing) -> np.ndarray:
        """log(q / p) of texts, float64 [N]."""
        if drawing not in self._others:
            written = self._plain(self._networks.params, self._seed + _OTHERS_STREAM, OTHERS, drawing)
            self._others[drawing] = self._energies(written.tokens, written.mask)
        return resampled_gain(self._energies(tokens, mask), self._others[drawing], self._candidates)

    def _energies(self, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """s of each text, float64 [N]."""
        count = len(tokens)
        size = rows_at_once(self._batch_size, count)
        rows = np.arange(-(-count // size) * size) % count
        batches = rows.reshape(-1, size)
        found = [
            self._energy(self._networks.discriminator_params, jnp.asarray(tokens[some]), jnp.asarray(mask[some]))
            for some in batches
        ]
        return np.concatenate([np.asarray(one, np.float64) for one in found])[:count]


def resampled_gain(energies: np.ndarray, others: np.ndarray, candidates: int) -> np.ndarray:
    """How much likelier a text is chosen from several than generated: log(q / p) in nats.

    Args:
        energies: float64 [N], s of the texts.
        others: float64 [M], s of texts of the generator, M at least `candidates`.
        candidates: number of candidates for each text.

    Returns: float64 [N]; its exponential is an unbiased estimate.
    """
    if candidates == 1:
        return np.zeros(len(energies))
    size = candidates - 1
    order = np.random.default_rng(0)
    groups = np.concatenate(
        [order.permutation(others)[: len(others) // size * size].reshape(-1, size) for _ in range(_PARTINGS)]
    )
    sums = np.logaddexp.reduce(groups, axis=1)
    found = []
    for some in np.array_split(energies, max(len(energies) * len(sums) // _AT_ONCE, 1)):
        chosen = -np.logaddexp(0.0, sums[None] - some[:, None])  # log of a text's share among its group
        found.append(np.logaddexp.reduce(chosen, axis=1) - np.log(len(sums)))
    return np.log(candidates) + np.concatenate(found)


def resampler(networks: Networks, candidates: int) -> Callable[..., Sample]:
    """A sampler for `TextWriter` with parameters `networks.both`, which chooses each text from several candidates."""

    def sampler(both: tuple[Params, Params], key: Array, prompt: Array, prompt_mask: Array, **options: Any) -> Sample:
        params, scorer = both
        energy = partial(networks.energy, scorer)
        return resample(networks.generator, params, energy, key, prompt, prompt_mask, candidates=candidates, **options)

    return sampler
