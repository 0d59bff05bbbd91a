"""What a training of the starter model hangs on, and how users change it."""

import json
import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualUNet
from cmb_autoseg.starter.blocks import SEQUENCES
from cmb_autoseg.starter.views import ViewSettings

__all__ = ["LearningSettings", "changed_settings", "read_settings"]


@dataclass(frozen=True)
class LearningSettings:
    """All that a training hangs on."""

    steps: int = 10_000
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    average: float = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    foreground_weight: float = 2.0
    dice_weight: float = 1.0
    last_lesion_share: float = 0.2
    """In the end, of the patches of blocks with microbleeds those about one; falls evenly from `views.lesion_share`."""
    hard_share: float = 0.3
    """Of the views, those about what was falsely found or missed before."""
    missed_again: bool = True
    """What was missed is shown again, too, not only what was falsely found."""
    half_precision: bool = True
    """bfloat16 for what gains by it."""
    features: tuple[int, ...] = (16, 32, 64, 128)
    kernel_sizes: tuple[tuple[int, int, int], ...] = ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    strides: tuple[tuple[int, int, int], ...] = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    blocks_per_stage: int = 2
    seed: int = 0
    views: ViewSettings = field(default_factory=ViewSettings)

    def network(self) -> ResidualUNet:
        """A network with random weights."""
        return ResidualUNet(
            input_channels=len(SEQUENCES),
            num_classes=2,
            n_stages=len(self.features),
            features_per_stage=self.features,
            kernel_sizes=self.kernel_sizes,
            strides=self.strides,
            n_blocks_per_stage=(self.blocks_per_stage,) * len(self.features),
            deep_supervision=True,
        )


def _check(settings: LearningSettings) -> None:
    views, depth = settings.views, len(settings.features)
    least = {"steps": 1, "batch_size": 1, "blocks_per_stage": 1, "warmup_steps": 0, "learning_rate": 1e-12}
    for name, at_least in least.items():
        if not at_least <= getattr(settings, name) < math.inf:
            raise InputError(f"--settings: found {getattr(settings, name)!r} for {name}, expected {at_least} at least")
    shares = {"hard_share": settings.hard_share, "last_lesion_share": settings.last_lesion_share}
    shares |= {f"views.{name}": getattr(views, name) for name in ("lesion_share", "resampled_share", "head_share")}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"--settings: found {share!r} for {name}, expected a share from 0 to 1")
    if not len(settings.kernel_sizes) == len(settings.strides) == depth > 0:
        raise InputError(f"--settings: found {depth} features; kernel_sizes and strides must be as many, one a stage")
    for axis, n in enumerate(views.patch_shape):
        shrinks = math.prod(stride[axis] for stride in settings.strides)
        if n < 1 or n % shrinks:
            raise InputError(f"--settings: found {n} in views.patch_shape, expected a multiple of {shrinks} there")
    names = {name for names, _ in views.sequence_shares for name in names}
    if not names or names - set(SEQUENCES) or not sum(share for _, share in views.sequence_shares) > 0:
        raise InputError(
            f"--settings: found {sorted(names)} in views.sequence_shares, expected sets of some of "
            f"{', '.join(SEQUENCES)}, each with its share"
        )


def read_settings(text: str) -> LearningSettings:
    """The settings that a checkpoint holds as JSON."""
    values = json.loads(text)
    views = ViewSettings(**{name: _as_tuples(value) for name, value in values.pop("views").items()})
    return LearningSettings(views=views, **{name: _as_tuples(value) for name, value in values.items()})


def changed_settings(changes: Any) -> LearningSettings:
    """The default settings with some of them changed; those of views are below `views`.

    Raises:
        InputError: there is no such setting, or it takes another kind of value, or others.
    """
    base = LearningSettings()
    if isinstance(changes, dict) and "views" in changes:
        changes = {**changes, "views": _changed(base.views, changes["views"], "views.")}
    settings: LearningSettings = _changed(base, changes, "")
    _check(settings)
    return settings


def _changed(base: Any, changes: Any, where: str) -> Any:
    if not isinstance(changes, dict):
        raise InputError(f"--settings: found {changes!r} for {where or 'all'}, expected {{NAME: VALUE}}")
    known = {field.name: getattr(base, field.name) for field in fields(base)}
    values = {name: _as_tuples(value) for name, value in changes.items()}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"--settings: {where}{name} is unknown; known are {', '.join(sorted(known))}")
        alike = (int, float) if isinstance(known[name], float) else type(known[name])
        if not isinstance(value, alike) or (isinstance(value, bool) and not isinstance(known[name], bool)):
            raise InputError(f"--settings: found {value!r} for {where}{name}, expected the like of {known[name]!r}")
    return replace(base, **values)


def _as_tuples(value: Any) -> Any:
    """A value of JSON with its lists as tuples, which settings are made of."""
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value
