"""Training of detectors of boxes in axial slices."""
