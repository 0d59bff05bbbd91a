"""Ensembles across recipes: thresholds and weights that are learned from out-of-fold maps."""
