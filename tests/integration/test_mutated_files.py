"""Randomly spoilt scans and cards through the real commands: no traceback, no hang, no flood of memory, no debris.

Every mutant hangs on its seed alone. More of them, for a machine that is idle:
`CMB_MUTANTS=1000 CMB_MUTANT_SEED=5000 pytest tests/integration/test_mutated_files.py`.
"""

import gzip
import os
import re
import resource
import signal

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import cohort, convert, predict

MUTANTS = int(os.environ.get("CMB_MUTANTS", "100"))
FIRST = int(os.environ.get("CMB_MUTANT_SEED", "0"))
SECONDS = 10
MEMORY_KIB = 1024 * 1024
SHAPE = (24, 24, 12)
LINE = re.compile(r"cmb_\w+( check)?: .+")
LOG_LINE = re.compile(
    r"(warning|left out|failed|quality control|  (?:fail|review)): .+|[A-Z][\w -]*: \d+/\d+, .+|"
    r"\d+ (?:phase images|projections) left out.+"
)

CARD = r"""schema: 1
name: Small
status: unverified
root: .
licence: {id: none, redistribute: false}
case: "{sub}"
group_by: [sub]
images:
  T2S: {role: gre_mag, path: "{sub:s\\d}/{sub}_T2S.nii.gz"}
  T1:
    role: t1
    optional: true
    path: "{sub:s\\d}/{sub}_T1.nii.gz"
labels:
  cmb: {kind: mask, path: "{sub:s\\d}/{sub}_CMB.nii.gz", values: {cmb: 1}, optional: true}
meta:
  participants: {path: participants.tsv, key: sub}
  site: {from: sub, regex: "s(\\d)", map: {"0": A, "1": B}}
  field_strength_t: {value: 3.0}
  split: {value: train}
prep: {brain: already_masked, nan: repair}
privacy: {hash_ids: false}
ignore: ["*_T1.nii.gz"]
"""
FIELDS = (
    *("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "qform_code", "sform_code"),
    *("quatern_b", "quatern_d", "qoffset_x", "srow_x", "srow_z", "magic", "xyzt_units"),
)
ODD_NUMBERS = (0, -1, 1, 2, 7, 32767, -32768, 1e-30, 1e30, np.nan, np.inf)
WORDS = (
    *("null", "true", "-1", "0", "1.5", "1e999", "9" * 30, "[]", "{}", "[1, 2]", "{a: b}", "''", "~", ".nan"),
    *("x" * 5000, "\u202e\u0000", "*nobody", "!!python/object:os.system {}", "2001-99-99", "&a [*a]"),
    *("{sub}", "../..", "$HOME", "\U0001f9e0"),
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


# Scans


def flip(data, rng, start, stop, n):
    """Other values in n bytes between two places."""
    for place in rng.integers(start, min(stop, len(data)), n):
        data[place] ^= int(rng.integers(1, 256))


def odd_field(data, rng):
    """A header field with a number that makes no sense there."""
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    name = rng.choice(FIELDS)
    value = header[name].copy().reshape(-1)
    if value.dtype.kind == "S":
        value[0] = rng.bytes(4)
    else:
        number = float(rng.choice([*ODD_NUMBERS, rng.normal(0, 100)]))
        if value.dtype.kind != "f":
            limits = np.iinfo(value.dtype)
            number = int(np.clip(np.nan_to_num(number), limits.min, limits.max))
        value[int(rng.integers(value.size))] = number
    header[name] = value.reshape(header[name].shape)
    data[:348] = header.binaryblock


def mutate_scan(scan, rng):
    """The bytes of a spoilt scan, and its suffix."""
    data = bytearray(scan)
    kind = int(rng.integers(9))
    packed = bool(rng.integers(2))
    if kind == 0:
        flip(data, rng, 0, 348, int(rng.integers(1, 6)))
    elif kind == 1:
        flip(data, rng, 352, len(data), int(rng.integers(1, 200)))
    elif kind in (2, 3):
        for _ in range(int(rng.integers(1, 4))):
            odd_field(data, rng)
    elif kind == 4:
        start = int(rng.integers(len(data)))
        data[start : start + int(rng.integers(1, 4000))] = b"\0" * min(4000, len(data) - start)
    whole = bytearray(gzip.compress(bytes(data), mtime=0) if packed else data)
    if kind == 5:
        flip(whole, rng, 0, len(whole), int(rng.integers(1, 20)))
    elif kind == 6:
        del whole[int(rng.integers(len(whole))) :]
    elif kind == 7:
        whole += rng.bytes(int(rng.integers(1, 3000)))
    elif kind == 8:
        packed = not packed
    return bytes(whole), ".nii.gz" if packed else ".nii"


# Cards


def mutate_card(text, rng):
    """The text of a spoilt card."""
    lines = text.splitlines()
    number = int(rng.integers(len(lines)))
    kind = int(rng.integers(14))
    other = lines[int(rng.integers(len(lines)))]
    words = re.findall(r"[\w.]+", lines[number]) or ["schema"]
    word = str(rng.choice(words))
    if kind == 0:
        del lines[number]
    elif kind == 1:
        lines.insert(number, other)
    elif kind == 2:
        lines[number] = lines[number].replace(word, word[::-1] + "z", 1)
    elif kind in (3, 4, 5):
        lines[number] = re.sub(rf"\b{re.escape(word)}\b", lambda _: str(rng.choice(WORDS)), lines[number], count=1)
    elif kind == 6:
        place = int(rng.integers(len(lines[number]) + 1))
        lines[number] = lines[number][:place] + "".join(map(chr, rng.integers(1, 0xD7FF, 4))) + lines[number][place:]
    elif kind == 7:
        lines[number] = " " * int(rng.integers(1, 9)) + lines[number]
    elif kind == 8:
        lines[number] += "\nx: " + "[" * int(rng.integers(1, 3000))
    elif kind == 9:
        lines[number] = lines[number].split(":")[0] + ": " + "{a: " * 200 + "1" + "}" * 200
    elif kind == 10:
        lines += (BOMB if rng.integers(2) else MERGES).splitlines()
        if rng.integers(2):
            lines += ["ignore: *i"]
    elif kind == 11:
        place = int(rng.integers(len(lines[number]) + 1))
        lines[number] = lines[number][:place] + chr(int(rng.integers(32))) + lines[number][place:]
    elif kind == 12:
        lines[number] = lines[number].replace("path: ", "path: " + str(rng.choice(["/", "''  # ", "!!int ", "- "])), 1)
    else:
        return "\n".join(lines)[: int(rng.integers(len(text)))]
    return "\n".join(lines) + "\n"


# What must hold


@pytest.fixture
def limits():
    """Stops what hangs, and refuses what takes far more memory than its file."""

    def stop(*_):
        raise AssertionError(f"takes longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEMORY_KIB


def outcome(main, arguments, capfd):
    """Exit code and the lines on standard error; any exception but SystemExit goes through."""
    capfd.readouterr()
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    lines = capfd.readouterr().err.splitlines()
    assert code in (0, 1, 2)
    if code == 2:
        assert lines
        assert LINE.fullmatch(lines.pop())
    assert [line for line in lines if not LOG_LINE.fullmatch(line)] == []
    return code


def a_scan():
    rng = np.random.default_rng(0)
    data = np.zeros(SHAPE, dtype=np.float32)
    data[2:-2, 2:-2, 1:-1] = 100 + rng.normal(0, 5, (20, 20, 10))
    return nib.Nifti1Image(data, np.diag([1.0, 1, 2, 1]))


def test_spoilt_scans(trained, tmp_path, capfd, caplog, limits):
    scan = a_scan().to_bytes()
    done = []
    for seed in range(FIRST, FIRST + MUTANTS):
        content, suffix = mutate_scan(scan, np.random.default_rng(seed))
        path, out = tmp_path / f"m{seed}_swi{suffix}", tmp_path / f"out{seed}"
        path.write_bytes(content)
        limits()
        arguments = ["-i", str(path), "-o", str(out), "-m", str(trained.model), "-f", "0", "-device", "cpu"]
        code = outcome(predict.main, arguments, capfd)
        assert path.read_bytes() == content
        if code == 2:
            assert not out.exists(), f"seed {seed}"
        else:
            assert code == 0
            mask = nib.load(out / f"m{seed}_swi_mask.nii.gz")
            assert set(np.unique(mask.dataobj)) <= {0, 1}
            assert np.isfinite(nib.load(out / f"m{seed}_swi_prob.nii.gz").get_fdata()).all(), f"seed {seed}"
        done.append(code)
    assert caplog.records == []
    assert 0.1 < np.mean(np.array(done) == 2) < 0.95


def write_cohort(folder):
    for index in range(2):
        image = a_scan()
        scan = image.get_fdata() + index * (image.get_fdata() > 0)
        mask = np.zeros(SHAPE, dtype=np.uint8)
        mask[8, 8, 5] = 1
        (folder / f"s{index}").mkdir(parents=True)
        nib.save(nib.Nifti1Image(scan.astype(np.float32), image.affine), folder / f"s{index}" / f"s{index}_T2S.nii.gz")
        nib.save(nib.Nifti1Image(mask, image.affine), folder / f"s{index}" / f"s{index}_CMB.nii.gz")
    (folder / "participants.tsv").write_text("participant_id\tage\ns0\t70\ns1\t80\n")


def check_card(text, seed, tmp_path, capfd):
    """Through `cmb_cohort check` and `cmb_convert` in turns."""
    card = tmp_path / "cohort" / "card.yaml"
    card.write_text(text, encoding="utf-8", errors="surrogatepass")
    if seed % 2:
        return outcome(cohort.main, ["check", str(card), "--count-lesions"], capfd)
    workspace = tmp_path / f"ws{seed}"
    code = outcome(convert.main, [str(card), "-d", "7", "--workspace", str(workspace)], capfd)
    assert code != 2 or not workspace.exists(), f"seed {seed}"
    return code


def test_spoilt_cards(tmp_path, capfd, limits):
    write_cohort(tmp_path / "cohort")
    codes = []
    for seed in range(FIRST, FIRST + MUTANTS):
        limits()
        codes.append(check_card(mutate_card(CARD, np.random.default_rng(seed)), seed, tmp_path, capfd))
    assert 0.1 < np.mean(np.array(codes) == 2) < 0.95


def test_an_endless_regex_of_a_path(tmp_path, capfd, limits):
    write_cohort(tmp_path / "cohort")
    (tmp_path / "cohort" / ("s" * 40)).mkdir()
    (tmp_path / "cohort" / ("s" * 40) / "x.nii.gz").touch()
    limits()
    text = CARD.replace(r'"{sub:s\\d}/{sub}_T1', '"{sub:(s+)+x}/{sub}_T1')
    assert check_card(text, 1, tmp_path, capfd) == 2


def test_an_endless_regex_of_a_column(tmp_path, capfd, limits):
    write_cohort(tmp_path / "cohort")
    (tmp_path / "cohort" / "participants.tsv").write_text("sub\tnote\ns0\t" + "s" * 40 + "\ns1\tx\n")
    text = CARD.replace("{value: 3.0}", '{from: note, regex: "(.*)*(.*)*(.*)*x$"}')
    limits()
    assert check_card(text, 1, tmp_path, capfd) == 2
