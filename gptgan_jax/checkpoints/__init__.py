"""Checkpoints: saved whole or not at all, with checksums, and only as many as are worth keeping."""
