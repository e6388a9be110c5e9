"""Evaluates generators on held-out text."""
