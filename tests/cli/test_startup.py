"""Help, version and wrong arguments answer without the heavy libraries."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
COMMANDS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
HEAVY = ("torch", "nnunetv2", "numpy", "nibabel", "pydantic", "matplotlib", "scipy")

PROBE = """
import sys
from importlib import import_module
module, _, heavy = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
for arguments in (["--help"], ["--version"], ["--no-such-option"]):
    try:
        import_module(module).main(arguments)
    except SystemExit as end:
        print(arguments[0], end.code)
print("imported", [name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_version_and_errors_import_nothing_heavy(command):
    module = COMMANDS[command].partition(":")[0]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module, command, ",".join(HEAVY)], capture_output=True, text=True, check=True
    )
    assert "--help 0\n" in done.stdout
    assert "--version 0\n" in done.stdout
    assert "--no-such-option 2\n" in done.stdout
    assert done.stdout.endswith("imported []\n")
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"{command}: error:")


REFUSED = """
import sys
from cmb_autoseg.cli.simulate import main
try:
    main(["-o", sys.argv[1], "-n", "1", "--name", "two words"])
except SystemExit as end:
    print(end.code, [name for name in sys.argv[2].split(",") if name in sys.modules])
"""


def test_a_name_that_no_cohort_may_have_is_refused_before_anything_heavy_is_imported(tmp_path):
    """Simulating imports torch and scipy, which takes seconds."""
    arguments = [sys.executable, "-c", REFUSED, str(tmp_path / "cohort"), ",".join(HEAVY)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert "--name: found 'two words'; use letters, digits, _ . and -" in done.stderr


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        ("cmb_train", ["-d", "501", "--epoch", "2"], "unrecognized arguments: --epoch 2 (did you mean --epochs?); see"),
        ("cmb_train", ["--steps_per_epochs=2", "-f", "0"], "(did you mean --steps-per-epoch?); see"),
        ("cmb_train", ["--work", "x"], "(did you mean --workspace?); see"),
        ("cmb_predict", ["-i", "x", "-o", "y", "--trust", "--biids"], "(did you mean --trust-model, --bids?); see"),
        ("cmb_cohort", ["check", "card.yaml", "--count_lesion"], "(did you mean --count-lesions?); see"),
        ("cmb_train", ["-d", "501", "surplus", "-q", "--zzzz"], "unrecognized arguments: surplus -q --zzzz; see"),
    ],
)
def test_of_a_mistyped_option_the_nearest_is_told(command, words, told, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(COMMANDS[command].partition(":")[0]).main(words)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_long_options_have_both_spellings(command):
    parser = importlib.import_module(COMMANDS[command].partition(":")[0]).build_parser()
    for action in parser._actions:
        for option in action.option_strings:
            if option.startswith("--") and "-" in option[2:]:
                assert "--" + option[2:].replace("-", "_") in action.option_strings


WRONG_ARGUMENTS = """
import sys
from importlib import import_module
code = import_module(sys.argv[1]).main(sys.argv[3:])
print(code, [name for name in sys.argv[2].split(",") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("predict", "-i scans/one.nii.gz -o out", "-i scans/one.nii.gz: no such file or folder"),
        ("explain", "-i scan.nii -o out -d 501", "-i scan.nii: no such file or folder"),
        ("predict", "-i scans -o out -d 999", "-d 999: no such dataset"),
        ("predict", "-i scans -o out -m nowhere", "-m nowhere: no such folder"),
        ("predict", "-i scans -o out -d 999 -f one", "-f: found 'one'"),
        ("predict", "-i scans -o out -d 999 -num_parts 3", "-num_parts: found without -part_id"),
        ("predict", "-i scans -o out -d 999 --slurm-array", "SLURM_ARRAY_TASK_ID is not set"),
        ("explain", "-i scans -o out -m nowhere", "-m nowhere: no such folder"),
        ("train", "-d 999 -f 0", "-d 999: no such dataset"),
        ("plan_preprocess", "-d 999", "-d 999: no such dataset"),
        ("finalize", "-d 999", "-d 999: no such dataset"),
    ],
)
def test_scans_models_and_datasets_that_are_not_there_are_refused_at_once(tmp_path, command, words, message):
    done = subprocess.run(
        [sys.executable, "-c", WRONG_ARGUMENTS, f"cmb_autoseg.cli.{command}", ",".join(HEAVY), *words.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout == "2 []\n"
    assert message in done.stderr
