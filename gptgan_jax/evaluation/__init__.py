"""What a generator is worth, on held-out text."""
