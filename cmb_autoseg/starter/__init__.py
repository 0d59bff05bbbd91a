"""The starter model: what it learns from, and how it learns."""
