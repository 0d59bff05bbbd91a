"""Whose head it is: tissues on a grid, from the average head or from a person's label map."""
