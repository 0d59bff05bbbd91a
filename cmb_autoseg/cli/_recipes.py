"""`-r`, and what shows the recipes that come with the tool, for every command that takes one."""

import argparse
import difflib
from typing import Any, NoReturn

from cmb_autoseg.cli._command import ExitCode, add_option

__all__ = ["add_recipe"]


def add_recipe(parser: argparse._ActionsContainer, help: str, **settings: Any) -> None:
    """Add `-r`, `--list-recipes` and `--show-recipe`.

    Args:
        parser: or a group of one.
        help: of `-r`.
        settings: further ones of `-r`.
    """
    add_option(parser, "-r", metavar="RECIPE", help=help, **settings)
    add_option(
        parser,
        "--list-recipes",
        action=_ListRecipes,
        nargs=0,
        help="say what each recipe that comes with the tool is for, and stop",
    )
    add_option(
        parser,
        "--show-recipe",
        action=_ShowRecipe,
        metavar="RECIPE",
        help="print a recipe that comes with the tool, the start of one's own, and stop",
    )


class _ListRecipes(argparse.Action):
    """Prints and ends, whatever else is missing on the command line, as `--version` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from cmb_autoseg.trainers.recipe import list_recipes, read_recipe

        names = list_recipes()
        width = max(map(len, names))
        print("\n".join(f"{name.ljust(width)}  {read_recipe(name).description}" for name in names))
        parser.exit(ExitCode.DONE)


class _ShowRecipe(argparse.Action):
    """Prints the file as it is, with its comments, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, _namespace: Any, value: Any, _option: Any = None) -> NoReturn:
        from cmb_autoseg.trainers.recipe import list_recipes

        recipes = list_recipes()
        if value not in recipes:
            near = difflib.get_close_matches(value, recipes, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(recipes)}"
            parser.error(f"--show-recipe {value}: no recipe of the tool; {hint}")
        print(recipes[value].read_text(encoding="utf-8"), end="")
        parser.exit(ExitCode.DONE)
