"""Several sources of text in one stream: the source of each row, the rows, and how much a run reads of each."""
