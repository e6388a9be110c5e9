"""Several sources of text in one stream: which source each row is of, the rows themselves, and what a run will read."""
