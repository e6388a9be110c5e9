"""Texts from a generator: many at once, or one token by token."""
