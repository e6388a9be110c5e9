"""Programs compiled ahead of time for TPUs that need not be there, and what they would cost to run."""
