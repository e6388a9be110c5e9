"""The metrics of a task, `evaluation.task`: how good a generator's answers to held-out prompts are.

Every generator answers the same prompts greedily; further columns have answers that need no model. All text is held
out, except that the most common answer comes from the training text.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gptgan_jax.config import TaskName
from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.generation.texts import Drawing, TextSet, text_set
from gptgan_jax.metrics.estimates import Figure, share_of
from gptgan_jax.metrics.exact_match import answer_figures, commonest_answer, exact_match, same_words
from gptgan_jax.metrics.ngrams import distinct_ngrams, distinct_texts
from gptgan_jax.metrics.rouge import first_sentence, novelty_figure, rouge, summary_figures
from gptgan_jax.scoring.two_sample import two_sample_test
from gptgan_jax.tokenization.units import Unit, plural, units_of

GREEDY = Drawing(temperature=0.0)
DRAWN_MATCH = "exact match of drawn answers"
FIRST_SENTENCE, ANOTHERS, COMMONEST = "first sentence", "another's answer", "commonest answer"


@dataclass(frozen=True)
class Task:
    """Prompts with their real answers, and the metrics of answers to them.

    Attributes:
        name: the task.
        asked: N held-out prompts and answers, encoded.
        train: training text.
        tokenizer: of both.
        classifies: whether to train a classifier, if the task has one.
        unit: of lengths and n-grams.
        word_for_word: whether an answer is right only if it has the real one's words, as what fills blanks is.
    """

    name: TaskName
    asked: TokenisedSplit
    train: TokenisedSplit
    tokenizer: AnyTokenizer
    classifies: bool = False
    unit: Unit = "word"
    word_for_word: bool = False

    def __len__(self) -> int:
        return len(self.asked)

    @cached_property
    def prompts(self) -> list[str]:
        """N texts as the generator reads them, that is, truncated."""
        return self.asked.prompt_texts(self.tokenizer)

    @cached_property
    def references(self) -> TextSet:
        """The real answers."""
        return text_set(self.asked, self.tokenizer)

    @property
    def right(self) -> Sequence[str]:
        """The right answers: the real ones, unless the data names others."""
        return self.references.texts if self.asked.answers is None else self.asked.answers

    @property
    def drawn(self) -> str:
        return f"{len(self)} prompts, greedy"

    def figures(self, answers: Sequence[str]) -> list[Figure]:
        """The metrics of greedy answers to the prompts, one each."""
        match self.name:
            case "summary":
                return [
                    *summary_figures(answers, self.prompts, self.right, self.drawn, self.unit),
                    *answer_figures(answers, self.right, self.drawn, self.word_for_word),
                ]
            case "answer":
                return answer_figures(answers, self.right, self.drawn, self.word_for_word)
            case "dialogue":
                return _variety_figures(answers, self.drawn, self.unit)

    def error(self, answers: Sequence[str]) -> float:
        """How far answers are from the training text's own, right or not: from 0, all equal, to 1."""
        if self.name == "summary":
            return float(1 - rouge(answers, self.references.texts)["ROUGE-L"].mean())
        return float(1 - self._matching(answers, self.references.texts).mean())

    def drawn_figures(self, answers: TextSet, drawn: str, seed: int) -> list[Figure]:
        """For sampled answers to the first prompts: the share of right ones, or whether a classifier distinguishes a
        dialogue's turns from real ones.

        Args:
            answers: at most N.
            drawn: how they were sampled, for the signatures.
            seed: of the classifier.
        """
        count = min(len(answers), len(self))
        if self.name != "dialogue":
            right = share_of(self._matching(answers.texts[:count], self.right[:count]))
            counted = "all words" if self.word_for_word else "final answer"
            return [Figure(DRAWN_MATCH, "share", right, f"{drawn}; {counted}", "higher")]
        asked = self.asked.subset(np.arange(count))
        return self._turns_figures(_turns(asked, answers.targets), drawn, seed)

    def real_figures(self, real: TokenisedSplit, drawn: str, seed: int) -> list[Figure]:
        """The metrics of real answers; `real` are different from those to the prompts, and have their own prompts."""
        if self.name == "dialogue":
            others = real.subset(np.arange(min(len(real), len(self))))
            texts = text_set(others, self.tokenizer).texts
            turns = _turns(others, others.targets)
            return [*_variety_figures(texts, self.drawn, self.unit), *self._turns_figures(turns, drawn, seed)]
        if self.asked.answers is not None:
            # The texts come from somebody who may be wrong, such as a teacher: this is how good they are themselves.
            return self.figures(self.references.texts)
        if self.name == "summary":
            return [novelty_figure(self.references.texts, self.prompts, self.drawn, self.unit)]
        return []

    def baselines(self, drawn: str, seed: int) -> dict[str, list[Figure]]:
        """By column, the metrics of answers without a model, which a generator must beat."""
        others = self.references.part(np.roll(np.arange(len(self)), -1))
        columns: dict[str, list[Figure]] = {}
        match self.name:
            case "summary":
                columns[FIRST_SENTENCE] = self.figures([first_sentence(prompt) for prompt in self.prompts])
            case "answer":
                known = text_set(self.train, self.tokenizer).texts
                commonest = Counter(known).most_common(1)[0][0] if self.word_for_word else commonest_answer(known)
                columns[COMMONEST] = self.figures([commonest] * len(self))
            case "dialogue":
                # The variety of replies is the same in any order.
                figures = self.drawn_figures(others, drawn, seed)
                return {ANOTHERS: figures} if figures else {}
        return columns | {ANOTHERS: self.figures(others.texts)}

    def _matching(self, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Which answers are right: bool [N]."""
        return (same_words if self.word_for_word else exact_match)(answers, references)

    def _turns_figures(self, turns: Ragged, drawn: str, seed: int) -> list[Figure]:
        """An accuracy of one half is that of real turns; a classifier of replies alone would not see their prompts."""
        if self.name != "dialogue" or not self.classifies:
            return []
        asked = self.asked
        test = two_sample_test(asked.vocabulary, asked.max_prompt_length + 1 + asked.max_length)
        accuracy = test(turns, _turns(asked, asked.targets), seed, paired=True)
        settings = f"CNN, 60 % learned, 30 % tested, seed {seed}"
        signature = f"{drawn}; prompt and reply, against {len(asked)} real ones; {settings}"
        return [Figure("classifier accuracy on turns", "share", accuracy, signature)]


def _variety_figures(replies: Sequence[str], drawn: str, unit: Unit) -> list[Figure]:
    """The variety of a dialogue's replies: a model with one dull reply to everything is likely, and useless
    (Li et al. 2016, "A diversity-promoting objective function for neural conversation models")."""
    words, units = units_of(replies, unit), plural(unit)
    return [
        Figure("distinct-1 of likeliest replies", "share", distinct_ngrams(words, 1), f"{drawn}; {units}"),
        Figure("distinct-2 of likeliest replies", "share", distinct_ngrams(words, 2), f"{drawn}; {units}"),
        Figure("different likeliest replies", "share", distinct_texts(replies), drawn),
    ]


def _turns(split: TokenisedSplit, answers: Ragged) -> Ragged:
    """Each prompt, the beginning of text and an answer, as one sequence."""
    assert split.prompts is not None
    between = np.array([split.vocabulary.bos_id], np.int32)
    rows = [np.concatenate([split.prompts[i], between, answers[i]]) for i in range(len(split))]
    return Ragged(np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)]).astype(np.int64))
