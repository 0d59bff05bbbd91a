"""Training of second stages, which look again at another model's candidates."""
