"""Estimators of the generator's gradient, a paper a file; `gradients.families` says what each of them is."""
