"""What a command does from end to end: a run, a comparison of methods, a teacher's responses."""
