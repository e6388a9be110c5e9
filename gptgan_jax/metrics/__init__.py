"""Metrics as functions of texts, vectors and log-probabilities; no model and no file."""
