"""The residual model: the likelihood model's text, resampled by a discriminator that learned to tell it from real text.

Deng et al. 2020 (https://arxiv.org/abs/2004.11714): q(x) = p(x) exp(s(x)) / Z, with the generator's p and the
discriminator's logit s. Z is estimated from texts of p, so the likelihood is known up to that estimate. Only for
text without prompts: Z is another for every prompt.
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

# Texts that Z is estimated from: its logarithm is then off by about 0.01 nats a text where exp(s) varies by its mean.
TEXTS_FOR_Z = 8000
# A stream of its own: the texts for Z are none of those that are evaluated.
_Z_STREAM = 0x5A


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
        UserError: where the checkpoint can't be read, or the discriminator's scores are no log-odds.
    """
    config, generator = run.config, run.generator
    if config.objective.pair_loss not in LOG_ODDS:
        raise UserError(f"a discriminator trained by {config.objective.pair_loss} gives no log-odds to resample by")
    discriminator = run.discriminator
    params = restore_generator(checkpoints, saved, config, generator)
    scorer = restore_discriminator(checkpoints, saved, config, discriminator)
    return Networks(generator, params, discriminator, scorer, config.objective.reward == "constant")


class ResidualModel:
    """Writes texts of the residual model and tells their likelihood."""

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
        self._log_z: dict[Drawing, float] = {}

    def write(self, count: int, drawing: Drawing) -> Written:
        """`count` texts from the seed, and their log-probabilities; the proposals are drawn as `drawing` says."""
        networks = self._networks
        written = self._resampled(networks.both, self._seed, count, drawing)
        gained = self._energies(written.tokens, written.mask) - self.log_z(drawing)
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
        nats = held_out.nats - self._energies(tokens, mask) + self.log_z(drawing)
        return HeldOut(nats, held_out.tokens, held_out.sources)

    def log_z(self, drawing: Drawing) -> float:
        """log of the mean of exp(s) over the generator's texts, nats a text."""
        if drawing not in self._log_z:
            written = self._plain(self._networks.params, self._seed + _Z_STREAM, TEXTS_FOR_Z, drawing)
            energies = self._energies(written.tokens, written.mask)
            self._log_z[drawing] = float(np.logaddexp.reduce(energies) - np.log(len(energies)))
        return self._log_z[drawing]

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


def resampler(networks: Networks, candidates: int) -> Callable[..., Sample]:
    """A sampler for `TextWriter` whose parameters are `networks.both`: it chooses each text from so many."""

    def sampler(both: tuple[Params, Params], key: Array, prompt: Array, prompt_mask: Array, **options: Any) -> Sample:
        params, scorer = both
        energy = partial(networks.energy, scorer)
        return resample(networks.generator, params, energy, key, prompt, prompt_mask, candidates=candidates, **options)

    return sampler
