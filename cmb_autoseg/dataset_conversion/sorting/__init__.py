"""From a card and a folder to cases: which file is which sequence of whom; no image is opened."""
