"""Training of networks of 3D patches, in nnU-Net's loop."""
