"""Ahead-of-time compilation for TPUs that need not be present, and the estimated cost of the programs."""
