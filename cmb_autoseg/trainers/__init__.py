"""Training, whatever the kind of system: cases of a fold, recipes, the loop, checkpoints, records."""
