"""Estimators of the generator's gradient, a paper a file; `families` says what each of them is."""
