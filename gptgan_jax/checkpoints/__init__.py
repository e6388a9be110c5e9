"""Checkpoints: saved atomically, with checksums, and deleted when they are no longer needed."""
