"""Options of the test run, and files that several folders of tests need."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_line_hangs_on_the_machine():
    """Lines that say what takes long come by the clock; what a command says is the same on a slow machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmb_autoseg.progress.SECONDS_OF_SILENCE", 3600.0)
        yield


@pytest.fixture(scope="session")
def dicom_files():
    """Writers of small DICOM series: the module `dicom_files.py`."""
    spec = importlib.util.spec_from_file_location("dicom_files", Path(__file__).with_name("dicom_files.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def pytest_addoption(parser):
    parser.addoption(
        "--kills", type=int, default=2, metavar="N", help="moments at which each command is killed (default 2)"
    )
