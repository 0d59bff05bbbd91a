"""Predictions and references of any tool, read as the lesions of cases."""
