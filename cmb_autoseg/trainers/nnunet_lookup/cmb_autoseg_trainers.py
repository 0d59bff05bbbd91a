"""nnU-Net finds our trainers here: it imports every file of the folder `nnUNet_extTrainer` names.

Only a re-export, so that the classes are the package's own and can be pickled.
"""

from cmb_autoseg.trainers.patches.cmb_trainer import CMBTrainer

__all__ = ["CMBTrainer"]
