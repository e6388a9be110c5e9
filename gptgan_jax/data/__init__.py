"""Corpora: training and held-out text, as token ids and as batches. Independent of any model."""
