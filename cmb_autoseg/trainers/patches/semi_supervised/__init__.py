"""Learning from unlabelled cases while training: an easy view of a patch teaches a hard one."""

from cmb_autoseg.trainers.patches.semi_supervised.teachers import MeanTeacher, SelfTeacher, Teacher, build_teacher
from cmb_autoseg.trainers.patches.semi_supervised.teaching import Lesson, Teaching, unlabelled_loss
from cmb_autoseg.trainers.patches.semi_supervised.views import TwoViews, ViewLoader
from cmb_autoseg.trainers.patches.semi_supervised.voxels import TeachingVoxels, teaching_voxels

__all__ = [
    "Lesson",
    "MeanTeacher",
    "SelfTeacher",
    "Teacher",
    "Teaching",
    "TeachingVoxels",
    "TwoViews",
    "ViewLoader",
    "build_teacher",
    "teaching_voxels",
    "unlabelled_loss",
]
