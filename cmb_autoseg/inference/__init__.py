"""Trained models: loaded, run on prepared scans, and what is written of each."""
