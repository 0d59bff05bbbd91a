"""What all commands share: options spelled both ways, exit codes, one-line errors.

This module and every `cli` module import only the standard library at import time, so that
`--help`, `--version` and wrong arguments answer at once.
"""

import argparse
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, NoReturn

from cmb_autoseg import __version__
from cmb_autoseg.cli._help import HelpFormatter
from cmb_autoseg.cli._nearest import nearest_options
from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.interruption import Stopped, stops_raise
from cmb_autoseg.run_log import run_log
from cmb_autoseg.workspace import PRESETS

__all__ = [
    "ActionParser",
    "ExitCode",
    "Parser",
    "add_dataset",
    "add_device",
    "add_option",
    "add_preset",
    "add_schedule",
    "add_seed",
    "add_workspace",
    "existing_path",
    "fold_list",
    "non_negative_int",
    "positive_float",
    "positive_int",
    "resolve_device",
    "run_command",
    "workspace_words",
]


class ExitCode(IntEnum):
    """What a command leaves with."""

    DONE = 0
    SOME_FAILED = 1
    BAD_INPUT = 2


SIGNAL_EXIT = 128


class Parser(argparse.ArgumentParser):
    """An argument parser with `--version` and `--debug`, whose errors are one line.

    `debug_default` is argparse.SUPPRESS for the parser of a subcommand, which must not undo a
    `--debug` that stands before it.
    """

    def __init__(self, prog: str, description: str, epilog: str | None = None, debug_default: Any = False) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        self._optionals.title = "other"
        self.add_argument("--version", action="version", version=f"{prog} {__version__}")
        if debug_default is not argparse.SUPPRESS:
            add_option(
                self,
                "--print-completion",
                action=_PrintCompletion,
                choices=("bash", "zsh"),
                help="print the script that completes this command in a shell, and stop",
            )
        self.add_argument("--debug", action="store_true", default=debug_default, help="show the traceback of an error")
        add_option(
            self,
            "--log-json",
            action="store_true",
            default=debug_default,
            help="write the run's log as JSON lines too, beside the readable one",
        )

    def add_argument_group(self, *args: Any, **kwargs: Any) -> argparse._ArgumentGroup:
        """A titled part of the help; what all commands share stays the last part."""
        group = super().add_argument_group(*args, **kwargs)
        shared = getattr(self, "_optionals", None)  # argparse makes its own groups before it knows them
        if shared is not None:
            self._action_groups.remove(shared)
            self._action_groups.append(shared)
        return group

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.BAD_INPUT, f"{self.prog}: error: {message}; see {self.prog} --help\n")


class ActionParser(Parser):
    """The parser of one action of a command; `--debug` may stand before or after the action's name."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(prog, description, epilog, debug_default=argparse.SUPPRESS)


class _PrintCompletion(argparse.Action):
    """Prints the completion script and ends, as `--version` prints and ends."""

    def __call__(self, parser: argparse.ArgumentParser, _namespace: Any, values: Any, _option: Any = None) -> NoReturn:
        from cmb_autoseg.cli._completion import completion_script

        print(completion_script(parser, values))
        parser.exit(ExitCode.DONE)


def add_option(parser: argparse._ActionsContainer, *flags: str, **settings: Any) -> None:
    """Add an option; a long name with hyphens is also understood with underscores.

    `-gpu_memory_target` style names (nnU-Net's) are given as they are and get the `--` spellings too.
    """
    spellings: list[str] = []
    for flag in flags:
        name = flag.lstrip("-")
        single_long = flag.startswith("-") and not flag.startswith("--") and len(name) > 1
        spellings.append(flag)
        if flag.startswith("--") or single_long:
            spellings += [f"--{name.replace('_', '-')}", f"--{name.replace('-', '_')}"]
    parser.add_argument(*dict.fromkeys(spellings), **settings)


def add_workspace(parser: argparse._ActionsContainer) -> None:
    add_option(
        parser,
        "--workspace",
        type=Path,
        metavar="DIR",
        help="where everything lives (default: $CMB_WORKSPACE, else ./cmb_workspace)",
    )


def workspace_words(workspace: Path | None) -> str:
    """What a told command needs to find the workspace that the user named."""
    return "" if workspace is None else f" --workspace {shlex.quote(str(workspace))}"


def add_dataset(
    parser: argparse._ActionsContainer, required: bool = True, help: str = "dataset: 501, NAME or Dataset501_NAME"
) -> None:
    add_option(parser, "-d", required=required, metavar="DATASET", help=help)


def add_device(parser: argparse._ActionsContainer) -> None:
    add_option(
        parser, "-device", choices=("cuda", "cpu"), help="where to compute (default: cuda where there is one, else cpu)"
    )


def add_preset(parser: argparse._ActionsContainer, but: str = "") -> None:
    """Which plan; `but` names an exception to its default, in the words of the help."""
    default = f"the first there is, in this order{but}"
    add_option(parser, "-p", "--preset", choices=PRESETS, help=f"which plan of the dataset (default: {default})")


def add_schedule(parser: argparse._ActionsContainer) -> None:
    """Options that change a recipe's schedule."""
    for flag in ("--epochs", "--steps-per-epoch"):
        add_option(parser, flag, type=positive_int, metavar="N", help="instead of the recipe's")


def add_seed(parser: argparse._ActionsContainer, default: int = 0) -> None:
    add_option(
        parser,
        "--seed",
        type=non_negative_int,
        default=default,
        metavar="N",
        help=f"seed of every random choice (default: {default})",
    )


def positive_int(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return value


def non_negative_int(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 0")
    return value


def positive_float(text: str) -> float:
    """An argparse type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number above 0")
    return value


def resolve_device(chosen: str | None, tell: bool = True) -> Literal["cuda", "cpu"]:
    """The device that the user chose, else cuda where there is one.

    Args:
        chosen: by the user.
        tell: say so where loading torch takes long.

    Raises:
        InputError: cuda was asked for and there is none.
    """
    from cmb_autoseg.progress import telling

    if chosen == "cpu" or (chosen is None and not _has_driver()):
        return "cpu"
    with telling("loading PyTorch ...") if tell else nullcontext():
        import torch

    if torch.cuda.is_available():
        return "cuda"
    if chosen == "cuda":
        raise InputError("-device cuda: torch finds no CUDA device; use -device cpu or check the driver")
    return "cpu"


def _has_driver() -> bool:
    """Whether a GPU's driver is there at all; without one PyTorch need not be loaded to know that it finds none."""
    import ctypes

    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return Path("/dev/kfd").exists()  # of AMD, whose library comes with PyTorch


def fold_list(values: Sequence[str]) -> tuple[int, ...] | None:
    """The folds named by `-f`: numbers from 0; None for `all`. How many there are, the dataset says.

    Raises:
        InputError: something else.
    """
    if list(values) == ["all"]:
        return None
    for value in values:
        if not (value.isascii() and value.isdecimal()):
            raise InputError(f"-f: found {value!r}, expected numbers of folds from 0, such as 0 1 2, or all")
    return tuple(dict.fromkeys(int(value) for value in values))


def existing_path(path: Path, flag: str) -> Path:
    """Refuse a path that is not there.

    Raises:
        InputError: names the flag and the path.
    """
    if not path.exists():
        raise InputError(f"{flag} {path}: no such file or folder")
    return path


def run_command(parser: Parser, run: Callable[[argparse.Namespace], int], argv: Sequence[str] | None) -> int:
    """Parse, run with a log, and turn errors that the user can mend into one line and exit code 2.

    Ctrl-C, SIGTERM and SIGHUP end the command with 128 plus the signal's number, as shells do.
    """
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    try:
        args = _parse(parser, arguments)
        debug = args.debug
        with stops_raise(), run_log(parser.prog, arguments, getattr(args, "seed", None), args.log_json):
            return int(run(args))
    except CMBError as error:
        return _complain(parser.prog, str(error), debug)
    except KeyboardInterrupt as error:
        print(f"{parser.prog}: interrupted; run the same command again to go on", file=sys.stderr)
        return SIGNAL_EXIT + (error.number if isinstance(error, Stopped) else signal.SIGINT)
    except BrokenPipeError:
        _drop_output()
        return ExitCode.DONE
    except OSError as error:  # a full disk, a lost mount, a file without permission
        where = f"{error.filename}: " if error.filename else ""
        status = _complain(
            parser.prog, f"{where}{error.strerror or error}; check the path, its permissions and free space", debug
        )
        try:
            _flush_output()
        except OSError:
            _drop_output()
        return status


def _parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse; where an option prints and ends, what it printed is out before it ends, or the error of that is raised."""
    try:
        args, unknown = parser.parse_known_args(arguments)
        if unknown:
            near = nearest_options(_options(parser, arguments), unknown)
            hint = f" (did you mean {', '.join(near)}?)" if near else ""
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return args
    except SystemExit:
        _flush_output()
        raise


def _options(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Options of a parser, and of the subcommands that stand among the words."""
    options = [option for action in parser._actions for option in action.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name in set(words) & set(action.choices):
                options += _options(action.choices[name], words)
    return options


def _flush_output() -> None:
    if sys.stdout is not None:  # It is None where the shell closed it.
        sys.stdout.flush()


def _drop_output() -> None:
    """Lead what is still to be printed nowhere, so that Python does not meet the same error as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(prog: str, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return ExitCode.BAD_INPUT
