"""The stages in a row: what the commands run, each skipping what is there already. Each stage loads what it needs."""
