"""Recipes by name or file, and what is wrong with them in words."""

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from cmb_autoseg.errors import InputError
from cmb_autoseg.trainers.recipe.recipe import Recipe

__all__ = ["list_recipes", "read_recipe"]


def list_recipes() -> dict[str, Path]:
    """Shipped recipes by name, sorted."""
    folder = Path(str(resources.files("cmb_autoseg.trainers") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_recipe(wanted: str) -> Recipe:
    """A shipped recipe by name, or a YAML file.

    Raises:
        InputError: no such recipe, or a field that is unknown or out of range.
    """
    shipped = list_recipes()
    path = shipped.get(wanted, Path(wanted))
    if not path.is_file():
        near = difflib.get_close_matches(wanted, shipped, n=1)
        hint = f"did you mean {near[0]}? Else " if near else ""
        raise InputError(
            f"-r {wanted}: no such recipe; {hint}choose {', '.join(shipped)} or give the path of a YAML file"
        )
    content = _read_yaml(path)
    try:
        recipe = Recipe.model_validate(content)
    except (ValidationError, RecursionError) as error:
        raise InputError(f"{path}: {_explain(error)}") from None
    if recipe.family == "mixture" and recipe.sequences is not None:
        raise InputError(
            f"{path}: sequences: has no meaning for a recipe of mixture; name them in its members' recipes"
        )
    recipe._given = wanted
    return recipe


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a UTF-8 text; a recipe is a YAML text file: save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not readable as YAML ({reason}); correct that place") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else repr(content)[:40]
        needed = ", ".join(name for name, field in Recipe.model_fields.items() if field.is_required())
        raise InputError(f"{path}: found {found}, expected keys and values; a recipe has at least {needed}")
    return content


def _explain(error: ValidationError | RecursionError) -> str:
    """The first mistake of a recipe in words that name the key and the cure."""
    if isinstance(error, RecursionError):
        return "an anchor refers to itself; write the values out"
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        legal = _legal_keys([str(part) for part in first["loc"][:-1]])
        near = difflib.get_close_matches(str(first["loc"][-1]), legal, n=1)
        return f"{field}: unknown key{f'; did you mean {near[0]}?' if near else ''} (legal keys: {', '.join(legal)})"
    if first["type"] == "missing":
        return f"{field}: missing; add it"
    reason = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict) and first["type"] == "value_error":  # names the keys and what was found itself
        return f"{field}.{reason}" if field else reason
    return f"{field}: found {repr(first['input'])[:60]}; {reason}; correct it"


def _legal_keys(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        inner = model.model_fields[part].annotation
        # An optional part is a union with None.
        model = next(
            kind for kind in (inner, *get_args(inner)) if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return [field.alias or name for name, field in model.model_fields.items()]
