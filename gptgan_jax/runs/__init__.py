"""A run as it lies on disk and in memory: its folder, checkpoints, records, and all that its config names."""
