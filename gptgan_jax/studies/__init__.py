"""Studies: a comparison repeated over cells, such as sizes of the generator and amounts of text (`gptgan study`)."""
