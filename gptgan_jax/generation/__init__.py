"""Generates texts: many at once, or one of them token by token."""
