"""Recipes by name or file, and what is wrong with them in words."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from cmb_autoseg.errors import InputError
from cmb_autoseg.trainers.recipe.recipe import OWN_PARTS, Recipe

__all__ = ["is_recipe_file", "list_recipes", "read_recipe"]

FILE_SUFFIXES = (".yaml", ".yml")


def list_recipes() -> dict[str, Path]:
    """Shipped recipes by name, sorted."""
    folder = Path(str(resources.files("cmb_autoseg.trainers") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def is_recipe_file(wanted: str) -> bool:
    """Whether a user who types this means a file, be it there or not, and no name."""
    path = Path(wanted)
    return path.suffix.lower() in FILE_SUFFIXES or path.name != wanted


def read_recipe(wanted: str) -> Recipe:
    """A shipped recipe by name, or a YAML file.

    Raises:
        InputError: no such recipe, or a field that is unknown or out of range.
    """
    shipped = list_recipes()
    path = shipped.get(wanted, Path(wanted))
    if not path.is_file():
        if is_recipe_file(wanted):
            raise InputError(f"-r {wanted}: no such file; {_nearest_file(path)}")
        near = difflib.get_close_matches(wanted, shipped, n=1)
        hint = f"did you mean {near[0]}? Else " if near else ""
        raise InputError(
            f"-r {wanted}: no such recipe; {hint}choose {', '.join(shipped)} or give the path of a YAML file"
        )
    content = _read_yaml(path)
    try:
        recipe = Recipe.model_validate(content)
    except (ValidationError, RecursionError) as error:
        raise InputError(f"{path}: {_explain(error, content)}") from None
    if recipe.family == "mixture" and recipe.sequences is not None:
        raise InputError(
            f"{path}: sequences: has no meaning for a recipe of mixture; name them in its members' recipes"
        )
    recipe._given = wanted
    return recipe


def _nearest_file(path: Path) -> str:
    """What to do about a recipe's file that is not there."""
    beside = [other.name for other in sorted(path.parent.glob("*")) if other.suffix.lower() in FILE_SUFFIXES]
    near = difflib.get_close_matches(path.name, beside, n=1)
    if near:
        return f"did you mean {path.with_name(near[0])}?"
    return "check the path, or write a file to start from with cmb_train --show-recipe NAME"


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


def _explain(error: ValidationError | RecursionError, content: Mapping[Any, Any]) -> str:
    """The first mistake of a recipe in words that name the key and the cure."""
    if isinstance(error, RecursionError):
        return "an anchor refers to itself; write the values out"
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        legal = _legal_keys([str(part) for part in first["loc"][:-1]])
        near = _elsewhere(str(first["loc"][-1]), content)
        near = near or difflib.get_close_matches(str(first["loc"][-1]), legal, n=1)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"{field}: unknown key{hint} (legal keys: {', '.join(legal)})"
    if first["type"] == "missing":
        return f"{field}: missing; add it"
    reason = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict) and first["type"] == "value_error":  # names the keys and what was found itself
        return f"{field}.{reason}" if field else reason
    return f"{field}: found {repr(first['input'])[:60]}; {reason}; correct it"


def _legal_keys(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        inner = _part(model, part)
        assert inner is not None
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _part(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model that a field holds; an optional part is a union with None."""
    inner = model.model_fields[name].annotation
    kinds = (inner, *get_args(inner))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _elsewhere(key: str, content: Mapping[Any, Any]) -> list[str]:
    """Where a key of exactly this name has a meaning in another section of such a recipe, as `boxes.width`."""
    foreign = frozenset[str]().union(*OWN_PARTS.values()) - OWN_PARTS[Recipe.family_of(content)]
    return [place for place in _places(Recipe, key, "") if place.partition(".")[0] not in foreign]


def _places(model: type[BaseModel], key: str, prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if key == (field.alias or name):
            yield f"{prefix}{key}"
        inner = _part(model, name)
        if inner is not None:
            yield from _places(inner, key, f"{prefix}{name}.")
