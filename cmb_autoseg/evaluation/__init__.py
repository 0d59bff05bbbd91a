"""Predictions against references: which lesions were found, and every figure that follows."""
