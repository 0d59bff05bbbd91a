"""Recipes on identical folds: what is trained, what is kept of every case, and the tables that follow."""
