"""Write the pages that follow from the code: commands.md, recipes.md and simulated-cohorts.md of the reference.

Run it after a change of a command's options or of the recipe's schema; a test compares.
"""

import argparse
import importlib
import importlib.util
import re
import tomllib
import types
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cmb_autoseg.cli._help import SHARED, shown_spellings
from cmb_autoseg.files import write_text
from cmb_autoseg.trainers.recipe import Recipe, list_recipes, read_recipe
from cmb_autoseg.trainers.recipe.recipe import KEYS_OF_MIXTURES

REFERENCE = Path(__file__).parent / "reference"
PROJECT = Path(__file__).parents[1]
ORDER = (
    "cohort",
    "convert",
    "plan_preprocess",
    "pretrain",
    "train",
    "finalize",
    "models",
    "predict",
    "explain",
    "evaluate",
    "compare",
    "bids",
    "simulate",
    "demo",
)
"""Commands in the order in which one uses them; others follow by name."""

COMMANDS_HEAD = """\
# Commands

Made from the commands themselves by `docs/generate_reference.py`; `COMMAND --help` says the same.

Long options may be written with hyphens or underscores (`--operating-point`, `--operating_point`).
"""
RECIPES_HEAD = """\
# Recipes

A recipe is everything that defines a training run, as a YAML file. `cmb_train -r NAME` takes one that comes
with the tool, `cmb_train -r my_recipe.yaml` takes yours. `--list-recipes` says what each is for, and
`cmb_train --show-recipe NAME > my_recipe.yaml` writes one to start from. The file is checked before anything starts; an
unknown key or a value out of range is one line with the legal ones. This page is made from the schema by
`docs/generate_reference.py`.

The model's folder is named after the recipe (`CMBTrainer__NAME__3d`), so give a changed recipe a new `name`,
and one that begins with an encoder of its own making (`pretraining`) the same name at `transfer.encoder`.
What is not in the file has the default below.
"""


def build_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command in pyproject.toml, by name, subcommands after their command."""
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    known = [f"cmb_{name}" for name in ORDER]
    names = sorted(scripts, key=lambda name: (known.index(name) if name in known else len(known), name))
    parsers = {}
    for name in names:
        parsers[name] = importlib.import_module(scripts[name].partition(":")[0]).build_parser()
        for action in _subparsers(parsers[name]):
            parsers.update({f"{name} {key}": parser for key, parser in action.choices.items()})
    return parsers


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse._SubParsersAction]:
    return (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def commands_page() -> str:
    parsers = build_parsers()
    parts = [COMMANDS_HEAD, _shared_options(next(iter(parsers.values())))]
    for name, parser in parsers.items():
        level = "###" if " " in name else "##"
        parts.append(f"{level} {name}\n\n{_escaped(' '.join((parser.description or '').split()))}\n")
        parts += [_group(group) for group in parser._action_groups if _options(group)]
        if not list(_subparsers(parser)):
            parts.append(f"```text\n{parser.epilog}\n```\n")
    return "\n".join(parts)


def _options(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    hidden = (argparse._SubParsersAction, argparse._HelpAction)
    return [a for a in group._group_actions if a.dest not in SHARED and not isinstance(a, hidden)]


def _group(group: argparse._ArgumentGroup) -> str:
    return _table(group.title or "", [_option(action) for action in _options(group)])


def _shared_options(parser: argparse.ArgumentParser) -> str:
    rows = [_option(action) for action in parser._actions if action.dest in SHARED]
    return "## Options of every command\n\n" + _table("option", rows)


def _table(title: str, rows: list[str]) -> str:
    return "\n".join([f"| {title} | |", "| --- | --- |", *rows]) + "\n"


def _option(action: argparse.Action) -> str:
    value = _value(action)
    names = ", ".join(f"`{name}`" for name in shown_spellings(action)) or f"`{value}`"
    shown = f"{names} `{value}`" if action.option_strings and value else names
    needed = " (required)" if action.required and action.option_strings else ""
    meaning = (action.help or "") % {"default": action.default, "prog": "the program"}
    return f"| {shown} | {_escaped(meaning)}{needed} |"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    name = " or ".join(map(str, action.choices)) if action.choices else str(action.metavar or action.dest.upper())
    return f"{name} ..." if action.nargs == "+" else name


def recipes_page() -> str:
    parts = [
        RECIPES_HEAD,
        "## Recipes that come with the tool\n",
        "| name | for | steps of a fold |",
        "| --- | --- | --- |",
    ]
    for name in list_recipes():
        recipe = read_recipe(name)
        steps = "none of its own" if recipe.family == "mixture" else f"{recipe.epochs * recipe.steps_per_epoch:,}"
        parts.append(f"| `{name}` | {recipe.description} | {steps} |")
    parts += ["\n## Keys\n", _fields(Recipe, "")]
    parts += _parts_of(Recipe, "")
    parts.append(
        "\n## A recipe in full\n\n```yaml\n" + list_recipes()["supervised"].read_text(encoding="utf-8") + "```\n"
    )
    return "\n".join(parts)


def _parts_of(model: type[BaseModel], prefix: str) -> list[str]:
    """A heading and a table for each part of a recipe, and for the parts of it in turn."""
    texts = []
    for name, field in model.model_fields.items():
        part = _part(field)
        if part is not None:
            about = " ".join((part.__doc__ or "").split())
            texts.append(f"\n## `{prefix}{name}`\n\n{about}\n\n{_fields(part, f'{prefix}{name}.')}")
            texts += _parts_of(part, f"{prefix}{name}.")
    return texts


def _part(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field holds, also where it may be left out."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _fields(model: type[BaseModel], prefix: str) -> str:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if _part(field) is not None and field.default is not None:
            continue
        key = f"`{prefix}{field.alias or name}`"
        about = " ".join((field.description or "").split())
        spared = model is Recipe and field.is_required() and name not in KEYS_OF_MIXTURES
        default = f"{_default(field)}; a mixture has none" if spared else _default(field)
        rows.append(f"| {key} | {_type(field)} | {default} | {_escaped(about)} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{str(value).replace(chr(39), '')}`"


LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _type(field: FieldInfo) -> str:
    """The type in words, with its limits; `Ge(ge=0)` and its like carry their limit under their own name."""
    limits = [
        f"{words} {getattr(each, name):g}"
        for each in field.metadata
        for name, words in LIMITS.items()
        if getattr(each, name, None) is not None
    ]
    return f"{_type_name(field.annotation)} {' and '.join(limits)}".strip()


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a part of its own, below"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return "role"
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        first, *rest = get_args(annotation)
        several = "" if rest == [Ellipsis] else f"{('two', 'three')[len(rest) - 1]} "
        return f"list of {several}{_plural(_type_name(first))}"
    if get_origin(annotation) is not None:
        return _type_name(get_args(annotation)[0])
    return {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}[annotation]


def _plural(name: str) -> str:
    if name.startswith("list"):
        return f"lists{name.removeprefix('list')}"
    return name.replace("number", "numbers").replace("role", "roles")


def _escaped(text: str) -> str:
    """For a cell of a table: a bar would end it, and stars and underscores would be markup."""
    return re.sub(r"([|*<])", r"\\\1", text)


def _simulated_cohorts_page() -> str:
    spec = importlib.util.spec_from_file_location("simulated_cohorts", Path(__file__).parent / "simulated_cohorts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.simulated_cohorts_page()


PAGES = {"commands.md": commands_page, "recipes.md": recipes_page, "simulated-cohorts.md": _simulated_cohorts_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        write_text(REFERENCE / name, page())
