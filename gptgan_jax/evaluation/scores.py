"""All metrics of a set of texts, with their signatures: which metrics there are, and how each is measured.

Each metric is a plain function elsewhere; here they get their names, directions and signatures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gptgan_jax.evaluation.memorisation import TrainingText
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.distances import frechet_distance, mauve
from gptgan_jax.metrics.divergences import LogProbs, divergences, rule_coverage
from gptgan_jax.metrics.estimates import (
    Better,
    Estimate,
    Figure,
    exponential,
    jackknife_error,
    mean_of,
    ratio_of_sums,
    share_of,
)
from gptgan_jax.metrics.ngrams import (
    Words,
    bleu,
    distinct_ngrams,
    distinct_texts,
    repetition,
    self_bleu,
)
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.judge import Judge
from gptgan_jax.scoring.source_likelihood import Source, source_log_probs
from gptgan_jax.sources.oracle import Oracle
from gptgan_jax.text_rewards.config import RewardConfig
from gptgan_jax.tokenization.units import Tokens, Unit, plural, units_of

__all__ = [
    "FRECHET",
    "LEAST_EMBEDDED",
    "ORDERS",
    "Ruler",
    "Source",
    "frechet",
    "judge_figures",
    "likelihood_figures",
    "lm_score",
    "reward_figures",
    "self_bleu_figures",
    "source_figures",
    "source_log_probs",
    "text_figures",
]

FRECHET = "Fréchet distance"
ORDERS = (2, 3, 4, 5)
# The fewest texts on each side for which the metrics of the language model are defined.
LEAST_EMBEDDED = 20


@dataclass(frozen=True, eq=False)
class Ruler:
    """What all sets of texts are compared with.

    Attributes:
        references: real text that the judge was not trained on.
        training: the text that samples may have been copied from; None if it is not known.
        judge: None leaves its metrics out.
        seed: of the classifier and of the models that are trained on samples.
        unit: of n-grams.
        paired: whether sample i answers the prompt of reference i.
    """

    references: TextSet
    training: TrainingText | None = None
    judge: Judge | None = None
    seed: int = 0
    unit: Unit = "word"
    paired: bool = False


def likelihood_figures(
    held_out: HeldOut, texts: Sequence[str], signature: str, with_end: bool | np.ndarray, unit: Unit = "word"
) -> list[Figure]:
    """Held-out NLL and perplexity, per token and per word (or character), and the NLL of each source of a mixture.

    Args:
        held_out: likelihood of N texts.
        texts: the same as strings.
        signature: which texts.
        with_end: whether the end of a text was predicted, for all texts or bool [N]; then it counts as a word too.
        unit: of the second perplexity: words or characters; with tokens it is left out.
    """
    nll = held_out.per_token()
    sources, plain = held_out.sources, signature
    counts: dict[str, int] = {}
    if sources is not None:
        counts = dict(zip(sources.names, np.bincount(sources.of, minlength=len(sources.names)).tolist(), strict=True))
        weights = [f"{name} {weight:.3g}" for name, weight in zip(sources.names, sources.weights, strict=True)]
        signature += f", sources by their weights in tokens: {', '.join(weights)}"
    figures = [
        Figure("held-out NLL", "nats/token", nll, signature, "lower"),
        Figure("held-out perplexity", "per token", exponential(nll), signature, "lower"),
    ]
    if not isinstance(unit, Tokens):  # perplexity per token is already there
        words = np.array([len(one) for one in units_of(texts, unit)]) + with_end
        end = f", {plural(unit)}" + (" and end of text" if np.any(with_end) else "")
        by_unit = exponential(held_out.per(words) if words.sum() else Estimate(None))
        figures.append(
            Figure(f"held-out perplexity by {unit}", f"per {unit}", by_unit, signature + end, "lower"),
        )
    return figures + [
        Figure(f"held-out NLL, {name}", "nats/token", one, f"{counts[name]} of the {plain}", "lower")
        for name, one in held_out.by_source().items()
    ]


def reward_figures(samples: TextSet, rewards: Sequence[RewardConfig], drawn: str) -> list[Figure]:
    """The mean of each built-in reward function that needs only the texts; a run's own functions are not called.

    Args:
        samples: N texts.
        rewards: those of the run, with any weight.
        drawn: how the texts were sampled.
    """
    figures = []
    for call in (reward.call() for reward in rewards if reward.is_built_in):
        if set(call.takes) <= {"tokens"}:
            of_tokens = {name: [samples.targets[i].tolist() for i in range(len(samples))] for name in call.takes}
            found = call.function(samples.texts, **of_tokens, **call.options)
            figures.append(Figure(f"reward {call.name}", "mean", mean_of(found), drawn, "higher"))
    return figures


def text_figures(samples: TextSet, ruler: Ruler, drawn: str) -> list[Figure]:
    """Metrics that need only the texts and their references: lengths, n-grams, copies.

    Args:
        samples: N texts, at least 2.
        ruler: with references.
        drawn: how the samples were drawn, for the signatures.
    """
    unit, units = ruler.unit, plural(ruler.unit)
    words, references = units_of(samples.texts, unit), units_of(ruler.references.texts, unit)
    figures = [
        Figure("length", "tokens", mean_of(np.diff(samples.targets.offsets)), drawn),
        *(
            Figure(f"BLEU-{n}", "", mean_of(scores), f"{drawn}; {len(references)} references, {units}, method1")
            for n, scores in bleu(words, references, ORDERS).items()
        ),
        *self_bleu_figures(words, drawn, ORDERS, unit),
        Figure("distinct-1", "share", distinct_ngrams(words, 1), f"{drawn}; {units}"),
        Figure("distinct-2", "share", distinct_ngrams(words, 2), f"{drawn}; {units}"),
        Figure("different texts", "share", distinct_texts(samples.texts), drawn),
        Figure("repeated 2-grams within a text", "share", repetition(words, 2), f"{drawn}; {units}"),
    ]
    return figures + (ruler.training.figures(samples, drawn) if ruler.training is not None else [])


def self_bleu_figures(words: Sequence[Words], drawn: str, orders: Sequence[int], unit: Unit = "word") -> list[Figure]:
    """Mean Self-BLEU. The texts are one another's references, so the error is a jackknife over groups of texts."""
    values = {n: float(scores.mean()) for n, scores in self_bleu(words, orders).items()}

    def error(n: int) -> float | None:
        return jackknife_error(lambda rows: float(self_bleu([words[i] for i in rows], (n,))[n].mean()), len(words))

    signature = f"{drawn}; each against the others, {plural(unit)}, method1"
    return [Figure(f"Self-BLEU-{n}", "", Estimate(value, error(n)), signature) for n, value in values.items()]


def judge_figures(samples: TextSet, ruler: Ruler, drawn: str) -> list[Figure]:
    """Metrics that need trained models: Fréchet distance, MAUVE, the classifier, LM score and reverse LM score.

    Distances and the classifier compare equally many samples and references; with fewer than 20 they are undefined.
    """
    judge = ruler.judge
    if judge is None:
        return []
    figures = [lm_score(samples, judge, drawn), frechet(samples, ruler, drawn)]
    count = min(len(samples), len(ruler.references))
    enough = count >= LEAST_EMBEDDED
    clusters = max(round(count / 10), 2)
    against = f"{drawn}; {count} of them against {count} references"
    rows = slice(0, count)
    similar = accuracy = reverse = Estimate(None)
    if enough:
        embedded = (judge.embed(side.part(rows)) for side in (samples, ruler.references))
        similar = mauve(*embedded, clusters=clusters, seed=ruler.seed)
        accuracy = judge.two_sample(samples.targets, ruler.references.targets, ruler.seed, paired=ruler.paired)
        learner = judge.model.fit(samples.targets, ruler.seed)
        reverse = judge.model.score(learner, ruler.references.targets).per_token()
    settings = f"{clusters} clusters, c=5, seed {ruler.seed}, {judge.embedder}"
    learned = f"{judge.model.description}, learned from {len(samples)} samples ({drawn}), seed {ruler.seed}"
    return [
        *figures,
        Figure("MAUVE", "", similar, f"{against}; {settings}", "higher"),
        Figure(
            "classifier accuracy", "share", accuracy, f"{against}; CNN, 60 % learned, 30 % tested, seed {ruler.seed}"
        ),
        Figure("reverse LM score", "nats/token", reverse, f"{len(ruler.references)} references; {learned}", "lower"),
    ]


def lm_score(samples: TextSet, judge: Judge, drawn: str) -> Figure:
    """The mean NLL of the samples under a language model of real text. The value of real text is the target."""
    nll = judge.model.score(judge.real, samples.targets).per_token()
    signature = f"{drawn}; {judge.model.description}, learned from {judge.learned}, {judge.fingerprint[:8]}"
    return Figure("LM score", "nats/token", nll, signature)


def frechet(samples: TextSet, ruler: Ruler, drawn: str) -> Figure:
    """The Fréchet distance between the judge's embeddings of equally many samples and references."""
    assert ruler.judge is not None
    count = min(len(samples), len(ruler.references))
    distance = Estimate(None)
    if count >= LEAST_EMBEDDED:
        rows = slice(0, count)
        distance = frechet_distance(*(ruler.judge.embed(side.part(rows)) for side in (samples, ruler.references)))
    signature = f"{drawn}; {count} of them against {count} references; {ruler.judge.embedder}"
    return Figure(FRECHET, "", distance, signature, "lower")


def source_figures(
    samples: TextSet, source: Source, real: LogProbs, written: LogProbs, drawn: str, against: str
) -> list[Figure]:
    """Divergences from the source of the data by exact probabilities, as Monte Carlo means over both sides.

    Args:
        samples: the generated texts.
        source: of the data.
        real: log-probabilities of real texts.
        written: log-probabilities of the samples.
        drawn: how the samples were drawn, for the signatures.
        against: which real texts, for the signatures.
    """
    found = divergences(real, written)
    both = f"{against}; {drawn}"

    def nats(name: str, estimate: Estimate, signature: str, better: Better = "lower") -> Figure:
        return Figure(name, "nats/text", estimate, signature, better)

    figures = [
        nats("forward KL", found.forward_kl, both),
        nats("reverse KL", found.reverse_kl, drawn),
        nats("forward + reverse KL", found.sum, both),
        Figure("Jensen-Shannon divergence", "nats, at most 0.693", found.jensen_shannon, both, "lower"),
    ]
    if isinstance(source, Oracle):
        lengths = np.diff(samples.targets.offsets)
        nll = _ratio(-written.source, lengths)
        return [Figure("NLL_oracle", "nats/token", nll, drawn), *figures]
    return [
        *figures,
        nats("reverse KL of the grammatical", found.reverse_kl_of_possible, drawn),
        Figure("grammatical", "share", share_of(np.isfinite(written.source)), drawn, "higher"),
        nats("source NLL of the grammatical", found.source_nll_of_possible, drawn, "real"),
        Figure("grammar rules used", "share", rule_coverage(samples.texts, source), drawn),
    ]


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    return ratio_of_sums(numerators, denominators) if denominators.sum() else Estimate(None)
