"""Sampling from a generator: cached decoding, rollouts, resampling, and log-probabilities of given tokens."""
