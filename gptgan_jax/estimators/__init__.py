"""Estimators of the generator's gradient, one file per paper; `gradients.families` defines their interfaces."""
