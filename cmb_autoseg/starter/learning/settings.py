"""Settings of a training: plain values that a checkpoint holds as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

__all__ = ["LoopSettings", "changed_settings"]

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class LoopSettings:
    """What every training has."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    average: float
    """Decay of the moving average of the weights, which is what is kept."""
    warmup_steps: int = 100
    half_precision: bool = True
    """bfloat16 for what gains by it."""
    seed: int = 0


def changed_settings(base: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings with some of them changed, as JSON gives them; settings within settings are changed likewise.

    Raises:
        ValueError: there is no such setting.
    """
    known = {field.name for field in fields(base)}  # type: ignore[arg-type]
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ValueError(f"settings: {unknown[0]} is unknown; known are {', '.join(sorted(known))}")
    values = {}
    for name, value in changes.items():
        inner = getattr(base, name)
        values[name] = changed_settings(inner, value) if is_dataclass(inner) else _as_tuples(value)
    changed: Settings = replace(base, **values)  # type: ignore[type-var]
    return changed


def _as_tuples(value: Any) -> Any:
    """A value of JSON with its lists as tuples, which settings are made of."""
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value
