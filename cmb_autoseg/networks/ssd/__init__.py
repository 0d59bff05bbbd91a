"""A single-shot detector of boxes (SSD, Liu et al. 2016). Torch and torchvision only."""

from cmb_autoseg.networks.ssd.anchors import anchor_boxes, anchors_per_place
from cmb_autoseg.networks.ssd.detector import SingleShotDetector, SSDOptions
from cmb_autoseg.networks.ssd.loss import detection_loss
from cmb_autoseg.networks.ssd.postprocessing import Detections, decode, suppressed

__all__ = [
    "Detections",
    "SSDOptions",
    "SingleShotDetector",
    "anchor_boxes",
    "anchors_per_place",
    "decode",
    "detection_loss",
    "suppressed",
]
