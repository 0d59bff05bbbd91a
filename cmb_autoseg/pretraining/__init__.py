"""Self-supervised pretraining: encoders that learn from unlabelled scans."""
