"""Commands from end to end, such as a run, a comparison of methods, or a teacher's responses."""
