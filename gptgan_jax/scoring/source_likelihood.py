"""The likelihood of texts under the source of the data, if that is known."""

import numpy as np

from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.divergences import grammar_log_probs
from gptgan_jax.sources.oracle import Oracle
from gptgan_jax.sources.pcfg import PCFG

Source = PCFG | Oracle


def source_log_probs(samples: TextSet, source: Source, tokenizer: AnyTokenizer) -> np.ndarray:
    """Log-probability of each text's token sequence under the source of the data: float64 [N], nats.

    -inf for a text that the source can't generate, that did not end, or that is spelt in other tokens than the
    tokenizer would use: the source's text only has the tokenizer's own spelling.
    """
    if isinstance(source, Oracle):
        return source.log_prob(samples.targets.tokens.reshape(len(samples), -1)).astype(np.float64)
    eos = tokenizer.vocabulary.eos_id
    spelt = tokenizer.encode_batch(samples.texts)
    regular = [[*ids, eos] == samples.targets[i].tolist() for i, ids in enumerate(spelt)]
    return grammar_log_probs(samples.texts, source, np.array(regular))


def misspelt(real: TextSet, source: Source, tokenizer: AnyTokenizer) -> list[str]:
    """Whole texts of the source that are none of its texts as the tokenizer spells them: it doesn't know a word, or
    loses the space before a full stop. A model of these tokens can't be measured by the source's probabilities.

    Args:
        real: N texts of the source, encoded and decoded; truncated ones are left out.
        source: where they come from.
        tokenizer: of the texts.
    """
    if isinstance(source, Oracle):
        return []
    whole = [real.targets[i][-1] == tokenizer.vocabulary.eos_id for i in range(len(real))]
    possible = np.isfinite(source_log_probs(real, source, tokenizer))
    return [text for text, end, known in zip(real.texts, whole, possible, strict=True) if end and not known]
