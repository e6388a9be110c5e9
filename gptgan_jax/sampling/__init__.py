"""Sampling from a generator: cached decoding, rollouts, resampling, and log-probabilities of given tokens."""

from gptgan_jax.sampling.decoding import draw, log_probs, sample, shape_logits
from gptgan_jax.sampling.rollouts import resample, rollout_values

__all__ = ["draw", "log_probs", "resample", "rollout_values", "sample", "shape_logits"]
