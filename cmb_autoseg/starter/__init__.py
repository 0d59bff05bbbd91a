"""The starter model: what it learns from, how it learns, and how it becomes a model folder."""
