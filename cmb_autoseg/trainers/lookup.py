"""Where plain nnU-Net finds the trainer of our models; standard library only."""

from pathlib import Path

__all__ = ["lookup_folder"]


def lookup_folder() -> Path:
    """The folder to which nnU-Net's `nnUNet_extTrainer` must point so that it finds our trainers."""
    return Path(__file__).parent / "nnunet_lookup"
