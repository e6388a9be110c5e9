"""Corpora: what is trained on and what is held out, as token ids and as batches. Knows no model."""
