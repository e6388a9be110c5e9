"""Rewards of texts by Python functions: the built-in ones, a user's own, and how a compiled step calls them."""
