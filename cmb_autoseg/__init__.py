"""cmb_autoseg: self-configuring segmentation of cerebral microbleeds on susceptibility MRI."""

__all__ = ["__version__"]

__version__ = "0.1.0"
