"""Training of networks that segment axial slices, and what detectors in slices share with it."""
