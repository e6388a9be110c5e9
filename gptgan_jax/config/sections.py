"""What a run is made of: the sections of a configuration, each checked by itself.

A section belongs to the room that it configures (a network's to `models`, a corpus's to `data`); those of the phases,
of evaluation and of a run's records are here.
"""

import dataclasses
from typing import Literal

from pydantic import model_validator

from gptgan_jax.config.estimators import EstimatorConfig, ReinforceConfig
from gptgan_jax.data.config import DataConfig, GrammarData, HfData, MixtureData, Packing
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
# The most runs that one config or comparison trains, one after another.
MOST_SEEDS = 1000
EmbedderName = Literal["language_model", "minilm"]
TaskName = Literal["summary", "answer", "dialogue"]
ChosenBy = str  # likelihood, task, max(NAME) or min(NAME); see `choosing`
PHASES: tuple[Phase, ...] = ("likelihood", "continued", "warmup", "adversarial")
LIKELIHOOD: tuple[Phase, ...] = PHASES[:2]  # those that train the generator by likelihood


@config_dataclass
class ObjectiveConfig:
    """What the two players learn from each other."""

    pair_loss: PairLossName = key("non_saturating", "the discriminator's loss")
    label_smoothing: float = key(0.0, "probability moved from each label to the other", LABEL_SMOOTHING)
    dense: bool = key(True, "score and reward every token; false: whole texts, rewarded at their last token")
    window: int = key(
        0, "tokens of a window that the discriminator judges by itself and pays at its end; 0: texts as they are", ge=0
    )
    reward: RewardName = key("sigmoid", "pay of the generator, from the discriminator's score; or a control without it")
    reward_formula: str | None = key(
        None, "with reward formula, of s (the score), s_prev, last, mean, to_go: 0.5 * sigmoid(s) * (tanh(s) + 1)"
    )
    estimator: EstimatorConfig = key(ReinforceConfig, "estimator of the generator's gradient")
    rewards: tuple[RewardConfig, ...] = key(
        (), "functions of the texts that pay beside the discriminator: [{function: module:name, weight: 1}, ...]"
    )
    reward_scaling: RewardScaling = key(
        "none",
        "several rewards on one scale: each less its mean, by its deviation, of the texts of a prompt (group) or of a "
        "step (batch)",
    )
    discriminator_reward_weight: float = key(
        1.0, "of the discriminator's reward beside them; 0: they alone pay", GAME["discriminator_reward_weight"]
    )
    resample_groups: int = key(
        0,
        "times at most that the texts of a prompt are drawn again where rewards pay all alike",
        GAME["resample_groups"],
    )
    temperature: float = key(1.0, "temperature that the generator writes at while it trains", GAME["temperature"])
    entropy_weight: float = key(0.0, "bonus for next-token entropy, per nat", GAME["entropy_weight"])
    likelihood_weight: float = key(
        0.0, "of real texts' negative log-likelihood in the generator's loss, per nat", GAME["likelihood_weight"]
    )
    kl_weight: float = key(0.0, "penalty on KL from the pre-trained generator, per nat", GAME["kl_weight"])
    kl_estimator: KlEstimator = key("exact", "over the vocabulary, of written tokens (low variance), or in the reward")
    r1_weight: float = key(0.0, "penalty on the score's squared gradient at real embeddings, halved", GAME["r1_weight"])
    r2_weight: float = key(0.0, "the same at generated embeddings", GAME["r2_weight"])
    gradient_penalty_weight: float = key(
        0.0, "penalty on a gradient norm other than 1 between the two", GAME["gradient_penalty_weight"]
    )
    classification: ClassificationConfig = key(ClassificationConfig, "the discriminator as a classifier of labels")
    next_token_weight: float = key(
        0.0, "on the discriminator's own next-token loss on real text", GAME["next_token_weight"]
    )
    mmd_weight: float = key(
        0.0,
        "with reward mmd, on the squared discrepancy of features in what the discriminator maximises",
        GAME["mmd_weight"],
    )
    mmd_bandwidths: tuple[float, ...] = key(BANDWIDTHS, "of the Gaussian kernel of features; several are summed")
    replay_size: int = key(0, "texts of earlier steps kept for the discriminator; 0 is none", GAME["replay_size"])
    replay_share: float = key(0.5, "share of its generated texts that is drawn from those", GAME["replay_share"])
    demonstration_share: float = key(
        0.0, "share of real texts among those the generator learns from", DEMONSTRATIONS["share"]
    )
    demonstration_reward: float = key(2.0, "what such a text is paid at its last token", DEMONSTRATIONS["reward"])
    residual_candidates: int = key(0, "also evaluate the residual model, each text chosen out of so many; 0: no", ge=0)
    demonstration_steps: int | None = key(
        None, "steps in which the share falls to 0; default: all of the phase", DEMONSTRATIONS["steps"]
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

    steps: int = key(1000, "batches; 0 leaves the phase out", ge=0)
    batch_size: int = key(64, "texts a batch, over all devices", ge=1)
    packing: Packing = key(
        "none",
        "concatenate: documents one after another, cut into rows of data.max_length without padding; best_fit: whole "
        "documents side by side in as few rows as fit; for text without prompts",
    )
    length_buckets: int = key(
        1,
        "widths of batches, of texts of like length: less padding, one compilation a width; in phase 2 as well",
        ge=1,
        le=64,
    )
    optimizer: OptimizerConfig = key(OptimizerConfig, "the generator's optimiser")


@config_dataclass
class ContinuedPhase:
    """Phase 2, the baseline: likelihood training goes on from its best, on as many texts as the adversarial phase."""

    steps: int | None = key(None, "batches of adversarial.batch_size; default: adversarial.steps", ge=0)
    learning_rate: float | None = key(
        None, "peak, else the likelihood phase's optimiser; default: 0.3 times the likelihood phase's", gt=0
    )


@config_dataclass
class WarmupPhase:
    """Phase 3: the discriminator learns to tell the pre-trained generator's text from real text."""

    steps: int = key(100, "batches; 0 leaves the phase out", ge=0)
    batch_size: int = key(64, "real texts a batch, and as many generated", ge=1)
    optimizer: OptimizerConfig = key(OptimizerConfig, "the discriminator's optimiser")


@config_dataclass
class AdversarialPhase:
    """Phase 4: both learn from each other."""

    steps: int = key(200, "batches; 0 leaves the phase out", ge=0)
    batch_size: int = key(64, "real texts a batch, and as many generated", ge=1)
    generator_optimizer: OptimizerConfig = key(lambda: OptimizerConfig(learning_rate=1e-4), "the generator's optimiser")
    discriminator_optimizer: OptimizerConfig = key(OptimizerConfig, "the discriminator's optimiser")
    discriminator_updates: int = key(
        1, "updates of the discriminator for each of the generator, on fresh text", GAME["discriminator_updates"]
    )
    ema_decay: float = key(
        0.0, "of an average of the generator, which is then what is evaluated; 0: none", GAME["ema_decay"]
    )
    freeze_discriminator: bool = key(False, "control: the discriminator stays as the warm-up left it")


@config_dataclass
class JudgeConfig:
    """The small language models that are trained while a run is evaluated, to score and to embed texts."""

    layers: int = key(2, "Transformer blocks", ge=1)
    width: int = key(128, "size of the hidden states, and of the embeddings", ge=2)
    dropout: float = key(0.1, "dropout rate", ge=0, lt=1)
    steps: int = key(600, "batches at most; it stops where a tenth of its text, kept aside, gets worse", ge=1)
    batch_size: int = key(64, "texts a batch", ge=1)
    learning_rate: float = key(3e-3, "peak learning rate", gt=0)


@config_dataclass
class SweepConfig:
    """The grid of `gptgan evaluate --sweep`."""

    temperatures: tuple[float, ...] = key((0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2), "temperatures that are tried")
    top_p: tuple[float, ...] = key((1.0, 0.9), "values of top-p that each is tried with; 1 is off")
    samples: int = key(1000, "texts drawn for each point of the grid", ge=20)

    @model_validator(mode="after")
    def _check(self) -> "SweepConfig":
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError("temperatures should be at least one number, all above 0")
        if not self.top_p or min(self.top_p) <= 0 or max(self.top_p) > 1:
            raise ValueError("top_p should be at least one number, all above 0 and at most 1")
        return self


@config_dataclass
class EvaluationConfig:
    """What is looked at on the way and at the end, always on held-out text."""

    every: int = key(200, "steps between evaluations; a checkpoint is saved at each", ge=1)
    log_every: int = key(10, "steps between lines of metrics.jsonl", ge=1)
    batch_size: int = key(100, "texts a batch while evaluating and sampling", ge=1)
    max_texts: int = key(2000, "held-out texts scored at an evaluation on the way; the final one uses all", ge=1)
    shown: int = key(8, "sample texts in samples.txt at each evaluation, always from the same keys", ge=1)
    samples: int = key(1000, "texts drawn for the final score table", ge=2)
    temperature: float = key(1.0, "temperature of all evaluation samples", ge=0)
    top_k: int = key(0, "draw from the k most likely tokens; 0 is off", ge=0)
    top_p: float = key(1.0, "draw from the smallest set of tokens with this probability; 1 is off", gt=0, le=1)
    embedder: EmbedderName = key("language_model", "what turns texts into vectors for Frechet distance and MAUVE")
    unit: UnitName = key(
        "auto",
        "of n-gram figures: words between spaces, characters, or tokens of the tokenizer; auto: characters where these "
        "are its tokens, or real text has no spaces between words",
    )
    task: TaskName | None = key(
        None, "what answers to prompts are measured as: a summary, an answer that is right or wrong, a dialogue's turn"
    )
    choose_by: ChosenBy = key(
        "likelihood",
        "what a phase's best checkpoint is best by: likelihood, of validation text; task, greedy answers to its "
        "prompts, by exact match (task answer) or ROUGE-L (task summary) with its text; or max(NAME) or min(NAME) of a "
        "figure, such as grammatical, jensen_shannon, bigram_jensen_shannon, distinct_2, reward or command",
    )
    choose_samples: int = key(200, "texts drawn at each evaluation where choose_by is a figure of samples", ge=2)
    choose_command: str | None = key(
        None,
        "for choose_by max(command) or min(command): a program that reads samples, JSON lines with a text (and a "
        "prompt), and prints a number",
        min_length=1,
    )
    choose_timeout: float = key(300.0, "seconds that it may take", gt=0)
    judge: JudgeConfig = key(JudgeConfig, "the language models that score and embed texts")
    sweep: SweepConfig = key(SweepConfig, "temperatures and top-p of evaluate --sweep")


@config_dataclass
class CheckpointConfig:
    """What is kept of each phase, besides its best by validation."""

    keep: int = key(2, "latest checkpoints kept of each phase", ge=1)
    folder: str | None = key(
        None, "where they lie, under the run's name, also gs://BUCKET/...; default: in the run folder", min_length=1
    )


@config_dataclass
class RecordsConfig:
    """Where a run's figures go besides metrics.jsonl."""

    tensorboard: bool = key(True, "write TensorBoard events into the run folder")
    wandb_project: str | None = key(None, "Weights & Biases project; None is off", min_length=1)
    profile: tuple[int, ...] = key((), "first and last global step of an XProf trace in RUN/profile; []: none")

    @model_validator(mode="after")
    def _check(self) -> "RecordsConfig":
        if self.profile and (len(self.profile) != 2 or not 1 <= self.profile[0] <= self.profile[1]):
            raise ValueError(f"profile {list(self.profile)} should be two global steps, the first and the last, from 1")
        return self


@config_dataclass
class Sections:
    """All sections of a run, and what follows from them. Whether they go together, `experiment.Config` checks."""

    name: str = key("", "name of the run folder; default: the config file's name", max_length=200)
    runs_folder: str = key("runs", "where run folders are made", min_length=1)
    seed: int = key(0, "of parameters, batches and samples", ge=0, lt=2**31)
    vocab_size: int | None = key(None, "the vocabulary both networks must have; default: the tokenizer's", ge=1)
    init_from: str | None = key(
        None,
        "whose generator and tokenizer this run starts from: a run folder, hf:FOLDER of a Hugging Face model, "
        "gguf:FILE, or hub:NAME[@REVISION]; of a model, keys of generator left out are those of its config.json; "
        "default: of none",
        min_length=1,
    )
    init_checkpoint: str = key("likelihood", "which checkpoint of a run: best, last, a phase (its best) or a step")
    init_vocabulary: Literal["same", "by_token"] = key(
        "same",
        "same: its tokenizer is taken. by_token: this run has its own; the rows of tokens that both have are copied, "
        "and new tokens begin as the mean of its rows",
    )
    max_skips: int = key(
        10, "steps in a row that are left out as their loss, gradient or result is not finite; then the run stops", ge=0
    )
    data: DataConfig = key(GrammarData, "where text comes from")
    tokenizer: TokenizerConfig = key(WordTokenizer, "how text becomes token ids; without effect on an oracle's ids")
    generator: GeneratorConfig = key(TransformerConfig, "the generator's network")
    discriminator: DiscriminatorConfig = key(CnnConfig, "the discriminator's network")
    objective: ObjectiveConfig = key(ObjectiveConfig, "losses, reward and estimator of adversarial training")
    likelihood: LikelihoodPhase = key(LikelihoodPhase, "phase 1: the generator by maximum likelihood")
    continued: ContinuedPhase = key(ContinuedPhase, "phase 2: more of phase 1, as the baseline")
    warmup: WarmupPhase = key(WarmupPhase, "phase 3: the discriminator alone")
    adversarial: AdversarialPhase = key(AdversarialPhase, "phase 4: both against each other")
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
    def conditional(self) -> bool:
        """Whether texts answer prompts."""
        data = self.data
        prompts = isinstance(data, HfData) and data.prompts_from is not None
        prompts |= isinstance(data, MixtureData) and data.conditional
        return prompts or (isinstance(data, GrammarData) and data.task is not None) or self.label_prompts

    def steps(self, phase: Phase) -> int:
        """Batches of a phase."""
        if phase == "continued" and self.continued.steps is None:
            return self.adversarial.steps
        return getattr(self, phase).steps

    def rows(self, phase: Phase) -> int:
        """Real texts that a step of a phase reads; each of the discriminator's updates reads fresh ones."""
        updates = self.adversarial.discriminator_updates if phase == "adversarial" else 1
        return updates * self.batch_size(phase)

    def batch_size(self, phase: Phase) -> int:
        """Texts a batch of a phase."""
        return self.adversarial.batch_size if phase == "continued" else getattr(self, phase).batch_size

    def continued_optimizer(self) -> OptimizerConfig:
        """The likelihood phase's, at the baseline's own learning rate, which rises in at most a tenth of the steps."""
        optimizer = self.likelihood.optimizer
        updates = self.steps("continued") // optimizer.accumulate
        return dataclasses.replace(
            optimizer,
            learning_rate=self.continued.learning_rate or 0.3 * optimizer.learning_rate,
            warmup_steps=min(optimizer.warmup_steps, updates // 10),
        )
