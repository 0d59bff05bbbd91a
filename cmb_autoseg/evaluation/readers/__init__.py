"""Readers' verdicts on the findings of a system."""
