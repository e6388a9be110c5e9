"""Several sources of text in one stream: the source of each row, the rows themselves, and what a run will read."""
