"""Quality control: what is measured of a scan, what is made of it, and how both are shown.

`measures.measure_quality` looks at one case, `verdicts.judge` at a cohort; `gallery`, `tables` and `flow` write.
Only data are imported here, so that a card's thresholds can be read without numpy's companions.
"""

from cmb_autoseg.quality_control.case_quality import CaseQuality
from cmb_autoseg.quality_control.settings import QualitySettings

__all__ = ["CaseQuality", "QualitySettings"]
