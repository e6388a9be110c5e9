"""The sections of a configuration, each validated by itself.

A section is defined in the package that it configures (a network's in `models`, a corpus's in `data`); those of the
phases, of evaluation and of a run's records are here.
"""

import dataclasses
from typing import Literal

from pydantic import model_validator

from gptgan_jax.config.estimators import EstimatorConfig, ReinforceConfig
from gptgan_jax.data.config import DataConfig, GrammarData, HfData, MixtureData, OracleData, Packing
from gptgan_jax.data.infilling import InfillingConfig
from gptgan_jax.data.tokenizers import TokenizerConfig, WordTokenizer
from gptgan_jax.distributed.partitioning import MeshConfig
from gptgan_jax.models.discriminator_networks import CnnConfig, DiscriminatorConfig
from gptgan_jax.models.generators import GeneratorConfig
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.objectives import formulas
from gptgan_jax.objectives.classification import ClassificationConfig
from gptgan_jax.objectives.discrimination import PairLossName
from gptgan_jax.objectives.likelihood import KlEstimator
from gptgan_jax.objectives.mmd import BANDWIDTHS, check_bandwidths
from gptgan_jax.objectives.optimizers import OptimizerConfig
from gptgan_jax.objectives.rewards import RewardName
from gptgan_jax.objectives.text_rewards import RewardScaling
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.schema.ranges import DEMONSTRATIONS, GAME, LABEL_SMOOTHING
from gptgan_jax.text_rewards.config import RewardConfig
from gptgan_jax.tokenization.units import UnitName

Phase = Literal["likelihood", "continued", "warmup", "adversarial"]
# The most seeds for which one config or comparison is trained, one after another.
MOST_SEEDS = 1000
EmbedderName = Literal["language_model", "minilm"]
TaskName = Literal["summary", "answer", "dialogue"]
ChosenBy = str  # likelihood, task, max(NAME) or min(NAME); see `choosing`
PHASES: tuple[Phase, ...] = ("likelihood", "continued", "warmup", "adversarial")
LIKELIHOOD: tuple[Phase, ...] = PHASES[:2]  # the phases that train the generator by likelihood


@config_dataclass
class ObjectiveConfig:
    """The losses, rewards and regularisers of adversarial training."""

    pair_loss: PairLossName = key("non_saturating", "the discriminator's loss")
    label_smoothing: float = key(0.0, "probability moved from each label to the other", LABEL_SMOOTHING)
    dense: bool = key(True, "score and reward every token; false: whole texts, rewarded at their last token")
    window: int = key(0, "score texts in windows of this many tokens, each rewarded at its end; 0: whole texts", ge=0)
    reward: RewardName = key("sigmoid", "the generator's reward, computed from the discriminator's score; or a control")
    reward_formula: str | None = key(
        None,
        "with reward formula: an expression in s (the score), s_prev, last, mean and to_go, such as "
        "0.5 * sigmoid(s) * (tanh(s) + 1)",
    )
    estimator: EstimatorConfig = key(ReinforceConfig, "estimator of the generator's gradient")
    rewards: tuple[RewardConfig, ...] = key(
        (), "rewards computed from the texts, added to the discriminator's: [{function: module:name, weight: 1}, ...]"
    )
    reward_scaling: RewardScaling = key(
        "none",
        "normalise each of several rewards by its mean and standard deviation, over the texts of a prompt (group) or "
        "of a step (batch)",
    )
    discriminator_reward_weight: float = key(
        1.0,
        "weight of the discriminator's reward beside those of rewards; 0: only those count",
        GAME["discriminator_reward_weight"],
    )
    resample_groups: int = key(
        0,
        "resample the texts of a prompt up to this many times while the reward functions give all of them the same",
        GAME["resample_groups"],
    )
    temperature: float = key(1.0, "sampling temperature of the generator during training", GAME["temperature"])
    entropy_weight: float = key(
        0.0, "weight of a bonus for the entropy of the next token, in nats", GAME["entropy_weight"]
    )
    likelihood_weight: float = key(
        0.0, "weight of real texts' NLL, in nats, in the generator's loss", GAME["likelihood_weight"]
    )
    kl_weight: float = key(
        0.0, "weight of a penalty on the KL divergence from the pre-trained generator, in nats", GAME["kl_weight"]
    )
    kl_estimator: KlEstimator = key(
        "exact",
        "exact: summed over the vocabulary; low_variance: from the sampled tokens; reward: the penalty is subtracted "
        "from the reward",
    )
    r1_weight: float = key(
        0.0, "weight of half the squared gradient of the score at real embeddings (R1)", GAME["r1_weight"]
    )
    r2_weight: float = key(0.0, "the same at generated embeddings (R2)", GAME["r2_weight"])
    gradient_penalty_weight: float = key(
        0.0,
        "weight of a penalty on gradient norms other than 1, between real and generated embeddings",
        GAME["gradient_penalty_weight"],
    )
    classification: ClassificationConfig = key(ClassificationConfig, "the discriminator as a classifier of labels")
    next_token_weight: float = key(
        0.0, "weight of the discriminator's own next-token loss on real text", GAME["next_token_weight"]
    )
    mmd_weight: float = key(
        0.0,
        "with reward mmd: weight of the squared discrepancy of features that the discriminator maximises",
        GAME["mmd_weight"],
    )
    mmd_bandwidths: tuple[float, ...] = key(BANDWIDTHS, "bandwidths of the Gaussian kernels on features, summed")
    replay_size: int = key(0, "texts of earlier steps kept for the discriminator; 0: none", GAME["replay_size"])
    replay_share: float = key(
        0.5, "share of the discriminator's generated texts that is drawn from those", GAME["replay_share"]
    )
    demonstration_share: float = key(
        0.0, "share of real texts among those the generator learns from", DEMONSTRATIONS["share"]
    )
    demonstration_reward: float = key(2.0, "reward of such a text, at its last token", DEMONSTRATIONS["reward"])
    residual_candidates: int = key(
        0, "also evaluate the residual model: each text is resampled from this many candidates; 0: no", ge=0
    )
    demonstration_steps: int | None = key(
        None, "steps over which the share falls to 0; default: the whole phase", DEMONSTRATIONS["steps"]
    )

    @model_validator(mode="after")
    def _check(self) -> "ObjectiveConfig":
        check_bandwidths(self.mmd_bandwidths)
        if self.reward_formula is not None:
            formulas.read(self.reward_formula)
        return self


@config_dataclass
class LikelihoodPhase:
    """Phase 1: the generator learns the text by maximum likelihood."""

    steps: int = key(1000, "number of batches; 0 skips the phase", ge=0)
    batch_size: int = key(64, "texts per batch, over all devices", ge=1)
    packing: Packing = key(
        "none",
        "concatenate: documents are concatenated and cut into rows of data.max_length without padding; best_fit: whole "
        "documents are packed into as few rows as possible; only for text without prompts",
    )
    length_buckets: int = key(
        1,
        "batch texts of similar length in this many widths: less padding, one compilation per width; also in phase 2",
        ge=1,
        le=64,
    )
    optimizer: OptimizerConfig = key(OptimizerConfig, "the generator's optimiser")


@config_dataclass
class ContinuedPhase:
    """Phase 2, the baseline: likelihood training continues, for as many batches as the adversarial phase has."""

    steps: int | None = key(None, "number of batches of adversarial.batch_size; default: adversarial.steps", ge=0)
    learning_rate: float | None = key(
        None,
        "peak learning rate, with the likelihood phase's optimiser otherwise; default: 0.3 times that phase's",
        gt=0,
    )


@config_dataclass
class WarmupPhase:
    """Phase 3: the discriminator learns to distinguish the pre-trained generator's text from real text."""

    steps: int = key(100, "number of batches; 0 skips the phase", ge=0)
    batch_size: int = key(64, "real texts per batch, and as many generated ones", ge=1)
    optimizer: OptimizerConfig = key(OptimizerConfig, "the discriminator's optimiser")


@config_dataclass
class AdversarialPhase:
    """Phase 4: generator and discriminator train against each other."""

    steps: int = key(200, "number of batches; 0 skips the phase", ge=0)
    batch_size: int = key(64, "real texts per batch, and as many generated ones", ge=1)
    generator_optimizer: OptimizerConfig = key(lambda: OptimizerConfig(learning_rate=1e-4), "the generator's optimiser")
    discriminator_optimizer: OptimizerConfig = key(OptimizerConfig, "the discriminator's optimiser")
    discriminator_updates: int = key(
        1,
        "updates of the discriminator per update of the generator, each on new text",
        GAME["discriminator_updates"],
    )
    ema_decay: float = key(
        0.0,
        "decay of a moving average of the generator's parameters, which is evaluated in their place; 0: none",
        GAME["ema_decay"],
    )
    freeze_discriminator: bool = key(False, "control: keep the discriminator as it was after the warm-up")


@config_dataclass
class JudgeConfig:
    """The small language models that an evaluation trains, to score and to embed texts."""

    layers: int = key(2, "Transformer blocks", ge=1)
    width: int = key(128, "size of the hidden states, and of the embeddings", ge=2)
    dropout: float = key(0.1, "dropout rate", ge=0, lt=1)
    steps: int = key(
        600, "maximum number of batches; stops early when the loss on a held-out tenth of its text rises", ge=1
    )
    batch_size: int = key(64, "texts per batch", ge=1)
    learning_rate: float = key(3e-3, "peak learning rate", gt=0)


@config_dataclass
class SweepConfig:
    """The grid of `gptgan evaluate --sweep`."""

    temperatures: tuple[float, ...] = key((0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2), "temperatures to try")
    top_p: tuple[float, ...] = key((1.0, 0.9), "values of top-p to try with each temperature; 1: off")
    samples: int = key(1000, "samples for each point of the grid", ge=20)

    @model_validator(mode="after")
    def _check(self) -> "SweepConfig":
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError("temperatures should be at least one number, all above 0")
        if not self.top_p or min(self.top_p) <= 0 or max(self.top_p) > 1:
            raise ValueError("top_p should be at least one number, all above 0 and at most 1")
        return self


@config_dataclass
class EvaluationConfig:
    """What is measured during training and at the end, always on held-out text."""

    every: int = key(200, "steps between evaluations; a checkpoint is saved at each", ge=1)
    log_every: int = key(10, "steps between lines of metrics.jsonl", ge=1)
    batch_size: int = key(100, "texts per batch while evaluating and sampling", ge=1)
    max_texts: int = key(2000, "held-out texts scored at an evaluation during training; the final one uses all", ge=1)
    shown: int = key(8, "samples written to samples.txt at each evaluation, always from the same PRNG keys", ge=1)
    samples: int = key(1000, "samples for the final score table", ge=2)
    temperature: float = key(1.0, "temperature of all evaluation samples", ge=0)
    top_k: int = key(0, "sample from the k most likely tokens; 0: off", ge=0)
    top_p: float = key(1.0, "sample from the smallest set of tokens with this total probability; 1: off", gt=0, le=1)
    best_of: int = key(
        0,
        "also evaluate best-of-N samples of the likelihood generator, by likelihood, for this N: what as many samples "
        "gain without a discriminator; 0: no",
        ge=0,
    )
    embedder: EmbedderName = key("language_model", "embeds the texts for Fréchet distance and MAUVE")
    unit: UnitName = key(
        "auto",
        "unit of n-grams: words between spaces, characters, or tokens of the tokenizer; auto: words, or characters if "
        "these are its tokens or real text has no spaces between words",
    )
    task: TaskName | None = key(
        None, "how to measure answers to prompts: as a summary, as an answer that is right or wrong, or as dialogue"
    )
    choose_by: ChosenBy = key(
        "likelihood",
        "how to choose a phase's best checkpoint: likelihood (of validation text); task (greedy answers to its "
        "prompts, by exact match with task answer or ROUGE-L with task summary); or max(NAME) or min(NAME) of a metric "
        "such as grammatical, jensen_shannon, bigram_jensen_shannon, distinct_2, reward or command",
    )
    choose_samples: int = key(200, "samples at each evaluation if choose_by is a metric of samples", ge=2)
    choose_command: str | None = key(
        None,
        "for choose_by max(command) or min(command): a program that reads samples, as JSON lines with a text (and a "
        "prompt), and prints a number",
        min_length=1,
    )
    choose_timeout: float = key(300.0, "time limit of choose_command in seconds", gt=0)
    judge: JudgeConfig = key(JudgeConfig, "the language models that score and embed texts")
    sweep: SweepConfig = key(SweepConfig, "temperatures and top-p of evaluate --sweep")


@config_dataclass
class CheckpointConfig:
    """The checkpoints that are kept of each phase, besides its best by validation."""

    keep: int = key(2, "latest checkpoints to keep of each phase", ge=1)
    folder: str | None = key(
        None,
        "where to store them, under the run's name; may be gs://BUCKET/...; default: in the run folder",
        min_length=1,
    )


@config_dataclass
class RecordsConfig:
    """Where a run's metrics are logged besides metrics.jsonl."""

    tensorboard: bool = key(True, "write TensorBoard events to the run folder")
    wandb_project: str | None = key(None, "Weights & Biases project; null: off", min_length=1)
    profile: tuple[int, ...] = key((), "first and last global step of an XProf trace, in RUN/profile; []: none")

    @model_validator(mode="after")
    def _check(self) -> "RecordsConfig":
        if self.profile and (len(self.profile) != 2 or not 1 <= self.profile[0] <= self.profile[1]):
            raise ValueError(f"profile {list(self.profile)} should be two global steps, the first and the last, from 1")
        return self


@config_dataclass
class Sections:
    """All sections of a run, and what follows from them. `experiment.Config` checks that they go together."""

    name: str = key("", "name of the run folder; default: the config file's name", max_length=200)
    runs_folder: str = key("runs", "folder in which run folders are created", min_length=1)
    seed: int = key(0, "seed of parameters, batches and samples", ge=0, lt=2**31)
    vocab_size: int | None = key(None, "the vocabulary size of both networks; default: the tokenizer's", ge=1)
    init_from: str | None = key(
        None,
        "start from the generator and tokenizer of a run folder, hf:FOLDER (a Hugging Face model), gguf:FILE or "
        "hub:NAME[@REVISION]; for a model, generator keys that are not given come from its config.json; default: start "
        "from scratch",
        min_length=1,
    )
    init_checkpoint: str = key(
        "likelihood", "the checkpoint, if init_from is a run: best, last, a phase (its best) or a step"
    )
    init_vocabulary: Literal["same", "by_token"] = key(
        "same",
        "same: use the tokenizer of init_from. by_token: use a tokenizer of this run's own; embeddings of tokens that "
        "both have are copied, and new tokens start from the mean of all",
    )
    max_skips: int = key(
        10, "stop after more than this many consecutive steps whose loss, gradient or result is not finite", ge=0
    )
    data: DataConfig = key(GrammarData, "the source of text")
    tokenizer: TokenizerConfig = key(WordTokenizer, "how text becomes token ids; no effect on an oracle's ids")
    generator: GeneratorConfig = key(TransformerConfig, "the generator's network")
    discriminator: DiscriminatorConfig = key(CnnConfig, "the discriminator's network")
    objective: ObjectiveConfig = key(ObjectiveConfig, "losses, reward and estimator of adversarial training")
    likelihood: LikelihoodPhase = key(LikelihoodPhase, "phase 1: the generator by maximum likelihood")
    continued: ContinuedPhase = key(ContinuedPhase, "phase 2: more likelihood training, as the baseline")
    warmup: WarmupPhase = key(WarmupPhase, "phase 3: the discriminator alone")
    adversarial: AdversarialPhase = key(AdversarialPhase, "phase 4: generator and discriminator against each other")
    evaluation: EvaluationConfig = key(EvaluationConfig, "what is measured, and on which samples")
    mesh: MeshConfig = key(MeshConfig, "how the work is split over devices")
    checkpoints: CheckpointConfig = key(CheckpointConfig, "which checkpoints are kept, and where")
    records: RecordsConfig = key(RecordsConfig, "where metrics are logged")

    @property
    def classifies(self) -> bool:
        """Whether the discriminator learns the data's labels."""
        return self.objective.classification.weight > 0

    @property
    def labelled(self) -> bool:
        """Whether the data has labels."""
        data = self.data
        return (isinstance(data, GrammarData) and data.label is not None) or (
            isinstance(data, HfData) and data.label_column is not None
        )

    @property
    def label_prompts(self) -> bool:
        """Whether texts answer their labels."""
        return isinstance(self.data, GrammarData | HfData) and self.data.label_prompts

    @property
    def infilling(self) -> InfillingConfig | None:
        """How texts fill in the blanks of their prompts; None if they don't."""
        given = None if isinstance(self.data, OracleData | MixtureData) else self.data.infilling
        return given if given is not None and given.share else None

    @property
    def conditional(self) -> bool:
        """Whether texts answer prompts."""
        data = self.data
        prompts = isinstance(data, HfData) and data.prompts_from is not None
        prompts |= isinstance(data, MixtureData) and data.conditional
        prompts |= isinstance(data, GrammarData) and data.task is not None
        return prompts or self.label_prompts or self.infilling is not None

    def steps(self, phase: Phase) -> int:
        """Batches of a phase."""
        if phase == "continued" and self.continued.steps is None:
            return self.adversarial.steps
        return getattr(self, phase).steps

    def rows(self, phase: Phase) -> int:
        """Real texts that a step of a phase reads; each discriminator update reads new ones."""
        updates = self.adversarial.discriminator_updates if phase == "adversarial" else 1
        return updates * self.batch_size(phase)

    def batch_size(self, phase: Phase) -> int:
        """Texts per batch of a phase."""
        return self.adversarial.batch_size if phase == "continued" else getattr(self, phase).batch_size

    def continued_optimizer(self) -> OptimizerConfig:
        """The likelihood phase's optimiser at the baseline's learning rate, with warm-up in at most a tenth of it."""
        optimizer = self.likelihood.optimizer
        updates = self.steps("continued") // optimizer.accumulate
        return dataclasses.replace(
            optimizer,
            learning_rate=self.continued.learning_rate or 0.3 * optimizer.learning_rate,
            warmup_steps=min(optimizer.warmup_steps, updates // 10),
        )
