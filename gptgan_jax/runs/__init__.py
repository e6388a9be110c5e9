"""A run on disk and in memory: its folder, checkpoints and records, and everything that its config names."""
