"""Networks. Torch only, so that they run wherever torch does."""

from cmb_autoseg.networks.residual_unet import ResidualEncoder, ResidualUNet

__all__ = ["ResidualEncoder", "ResidualUNet"]
