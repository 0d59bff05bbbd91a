"""Every card that comes with the tool, on a tiny invented cohort in its layout."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import cohort, convert
from cmb_autoseg.dataset_conversion import read_card
from cmb_autoseg.dataset_conversion.card_file import parse_card, shipped_cards
from cmb_autoseg.records import Role

SIDE = 8
LESION = (3, 4, 5)
AFFINE = np.array([[0.9, 0, 0, -3.0], [0, 0.9, 0, -4.0], [0, 0, 2.0, 6.0], [0, 0, 0, 1]])
SWI, GRE, PHASE, QSM = Role.SWI, Role.GRE_MAG, Role.GRE_PHASE, Role.QSM
T1, T2, FLAIR = Role.T1, Role.T2, Role.FLAIR


def volume(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(50, 99, (SIDE,) * 3).astype(np.float32)


def mask(*lesions: tuple[int, int, int]) -> np.ndarray:
    marked = np.zeros((SIDE,) * 3, np.uint8)
    for lesion in lesions:
        marked[lesion] = 1
    return marked


def nifti(data: np.ndarray) -> bytes:
    return nib.Nifti1Image(data, AFFINE).to_bytes()


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def scans(root: Path, *names: str) -> None:
    """Images of noise; those with CMB, cmb or brain_mask in their name are masks."""
    root.mkdir(exist_ok=True)
    for name in names:
        is_mask = "cmb" in name.lower().rpartition("/")[2] or "brain_mask" in name
        content = nifti(mask(LESION) if is_mask else volume(zlib.crc32(name.encode())))
        if name.endswith(".gz"):
            content = gzip.compress(content, 1, mtime=0)
        archive, inside, member = name.partition("!/")
        if inside:
            with zipfile.ZipFile(root / archive, "a") as file:
                file.writestr(member, content)
        else:
            put(root / name, content)


def picture(path: Path, seed: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(volume(seed)[..., 0].astype(np.uint8)).save(path)


def one_folder_each(root: Path) -> None:
    scans(root, "P1/P1_SWI.nii.gz", "P1/P1_T1.nii.gz", "P1/P1_CMB.nii.gz", "P2/P2_T2S.nii", "P2/P2_QSM.nii")


def swi_and_gre(root: Path) -> None:
    scans(root, "a/a_SWI.nii.gz", "a/a_T2S.nii.gz", "a/a_CMB.nii.gz", "b/b_SWI.nii.gz")


def swi_alone(root: Path) -> None:
    scans(root, *(f"{name}/{name}_{end}.nii.gz" for name in ("Ann0001", "Bob0002") for end in ("SWI", "CMB")))


def waves(root: Path) -> None:
    scans(root, *(f"Kim0007/w{n}/Kim0007_w{n}_{end}.nii.gz" for n in (1, 2) for end in ("SWI", "FLAIR")))
    scans(root, "Kim0007/w1/Kim0007_w1_CMB.nii.gz", "Kim0008/w1/Kim0008_w1_T2S.nii.gz")


def bids(root: Path) -> None:
    scans(root, "sub-01/ses-a/anat/sub-01_ses-a_T2starw.nii.gz", "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
          "sub-02/anat/sub-02_swi.nii", "sub-02/anat/sub-02_Chimap.nii",
          "derivatives/reader/sub-02/anat/sub-02_label-CMB_mask.nii.gz")  # fmt: skip


def valdo(root: Path) -> None:
    stems = [f"sub-{n}/sub-{n}_space-T2S_" for n in (101, 204)]
    scans(root, *(f"{stem}desc-masked_{end}.nii.gz" for stem in stems for end in ("T2S", "T1", "T2")))
    scans(root, *(f"{stem}CMB.nii.gz" for stem in stems))


def biobank(root: Path) -> None:
    scans(root, *(f"100000{n}_20251_2_0.zip!/SWI/{end}.nii.gz" for n in (1, 2)
                  for end in ("SWI", "SWI_TOTAL_MAG", "SWI_TOTAL_MAG_TE2", "SWI_TOTAL_PHA_TE2")))  # fmt: skip
    scans(root, *(f"1000001_20252_2_0.zip!/T1/{end}.nii.gz" for end in ("T1", "T1_brain", "T1_brain_mask")))
    scans(root, "readings/1000001_2_0_CMB.nii.gz")


def dou(root: Path) -> None:
    from scipy.io import savemat

    scans(root, "nii/01.nii", "nii/02.nii")
    (root / "ground_truth").mkdir()
    for name, points in (("01", [np.add(LESION, 1)]), ("02", np.empty((0, 3)))):
        savemat(root / f"ground_truth/{name}.mat", {"cen": np.array(points, float), "gt_num": len(points)})


def csiro(root: Path) -> None:
    from openpyxl import Workbook

    share, end = "PublicDataShare_2020", "MRI_SWI_BFC_50mm_HM"
    scans(root, f"{share}/rCMB_DefiniteSubject/242_T1_{end}.nii.gz", f"{share}/NoCMBSubject/242_T0_{end}.nii.gz",
          f"{share}/sCMB_NoCMBSubject/242_T0_{end}_sCMB_V1.nii.gz")  # fmt: skip
    book = Workbook()
    # As in the original: the first column's name ends in a blank, of three columns only the first has a name.
    book.active.append(["NIFTI File Name ", "Location CMB # 1", None, None, "Location CMB # 2", None, None])
    book.active.append([f"242_T1_{end}.nii.gz", *(int(value) + 1 for value in LESION), " ", " ", " "])
    content = io.BytesIO()
    book.save(content)
    put(root / f"{share}/rCMBInformationInfo.xlsx", content.getvalue())


def yolo_slices(root: Path) -> None:
    for k in range(4):
        picture(root / f"images/p1_{k:03d}.jpg", k)
        put(root / f"labels/p1_{k:03d}.txt", "0 0.5 0.5 0.25 0.25\n" if k == 2 else "")
        picture(root / f"images/p2_{k:03d}.png", 9 + k)
    for name, suffix in (("p1", "jpg"), ("p2", "png")):
        rows = [f"{name}_{k:03d}.{suffix}\t0\t0\t{2 * k}\t0.5\t2.0" for k in range(4)]
        put(root / f"slices/{name}.tsv", "\n".join(["image\tx_mm\ty_mm\tz_mm\tpixel_mm\tslice_mm", *rows]) + "\n")
    put(root / "classes.txt", "microbleed\n")


BOX = "<object><name>cmb</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"


def voc_slices(root: Path) -> None:
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>1</depth></size>"
    for k in range(3):
        picture(root / f"JPEGImages/Pat0001_{k}.jpg", k)
        found = BOX if k == 1 else ""
        name = f"<filename>Pat0001_{k}.jpg</filename>"
        put(root / f"Annotations/Pat0001_{k}.xml", f"<annotation>{name}{size}{found}</annotation>")


def series(folder: Path, person: str, date: str, number: int, description: str, *kind: str) -> None:
    """A classic MR series of three slices."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    study = f"1.2.{zlib.crc32(f'{person}{date}'.encode())}"
    for k in range(3):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = f"{study}.{number}.{k}"
        image = Dataset()
        image.file_meta = meta
        for name, value in {
            "SOPClassUID": MRImageStorage,
            "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "PatientID": person,
            "PatientName": f"Family^{person}",
            "StudyDate": date,
            "Modality": "MR",
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.{number}",
            "SeriesNumber": number,
            "SeriesDescription": description,
            "ImageType": ["ORIGINAL", "PRIMARY", *(kind or ("M",)), "ND"],
            "InstanceNumber": k + 1,
            "EchoTime": "20",
            "ImagePositionPatient": [-3, -4, 2 * k],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [0.9, 0.9],
            "SliceThickness": 2,
            "Rows": SIDE,
            "Columns": SIDE,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 12,
            "HighBit": 11,
            "PixelRepresentation": 0,
        }.items():
            setattr(image, name, value)
        pixels = volume(zlib.crc32(f"{study}{number}".encode()) % 1000)[..., k]
        image.PixelData = pixels.astype("<u2").tobytes()
        image.save_as(folder / f"I{number}_{k}", enforce_file_format=True)


def hospital(root: Path) -> None:
    series(root / "a", "ID-77", "20190102", 1, "localizer")
    series(root / "a", "ID-77", "20190102", 2, "t1_mprage_sag")
    series(root / "a", "ID-77", "20190102", 3, "t2_swi3d_tra", "M", "SWI")
    series(root / "a", "ID-77", "20190102", 4, "t2_swi3d_tra_Pha", "P")
    series(root / "a", "ID-77", "20190102", 5, "mIP_Images(SW)", "M", "MNIP")
    series(root / "b", "ID-77", "20200102", 1, "T2* gre tra")
    series(root / "c", "ID-78", "20200103", 1, "Ax T2 FLAIR")
    series(root / "c", "ID-78", "20200103", 2, "Ax SWAN")
    series(root / "c", "ID-78", "20200103", 3, "Ax T2 FRFSE")


def loni(root: Path) -> None:
    for number, words in enumerate(("Axial T2 STAR", "AXIAL_T2_ STAR", "Axial T2-Star"), 1):
        person = f"00{number}_S_000{number}"
        series(root / f"ADNI/{person}/T2/2012-11-08/I1", person, "20121108", 1, words)
        series(root / f"ADNI/{person}/T1/2012-11-08/I2", person, "20121108", 2, "Accelerated SAG IR-SPGR")
    series(root / "ADNI/001_S_0001/FLAIR/2012-11-08/I3", "001_S_0001", "20121108", 3, "Axial FLAIR")


@dataclass(frozen=True)
class Layout:
    """An invented cohort and what the card makes of it."""

    write: Callable[[Path], None]
    cases: Mapping[str, tuple[set[Role], str | None]]
    """Case to its sequences and the kind of its label."""
    identifiers: tuple[str, ...] = ()
    """With privacy.hash_ids: texts that must not be written."""
    lesions: Mapping[str, int] = field(default_factory=dict)


LAYOUTS = {
    "nifti_masks": Layout(one_folder_each, {"P1": ({SWI, T1}, "mask"), "P2": ({GRE, QSM}, None)}, lesions={"P1": 1}),
    "bids": Layout(bids, {"sub-01_ses-a": ({GRE, T1}, None), "sub-02": ({SWI, QSM}, "mask")}, lesions={"sub-02": 1}),
    "dicom": Layout(
        hospital,
        {
            "ID-77_20190102": ({SWI, PHASE, T1}, None),
            "ID-77_20200102": ({GRE}, None),
            "ID-78_20200103": ({SWI, T2, FLAIR}, None),
        },
        ("ID-77", "ID-78", "Family", "20190102", "20200102", "20200103"),
    ),
    "adni": Layout(
        loni,
        {
            "001_S_0001_20121108": ({GRE, T1, FLAIR}, None),
            "002_S_0002_20121108": ({GRE, T1}, None),
            "003_S_0003_20121108": ({GRE, T1}, None),
        },
        ("001_S_0001", "002_S_0002", "Family", "20121108"),
    ),
    "aibl": Layout(
        hospital,
        {
            "ID-77_20190102": ({SWI, PHASE, T1}, None),
            "ID-77_20200102": ({GRE}, None),
            "ID-78_20200103": ({SWI, T2, FLAIR}, None),
        },
        ("ID-77", "ID-78", "Family", "20190102", "20200102", "20200103"),
    ),
    "slices_boxes": Layout(yolo_slices, {"p1": ({SWI}, "boxes"), "p2": ({SWI}, None)}, lesions={"p1": 1}),
    "valdo": Layout(
        valdo,
        {"sub-101": ({GRE, T1, T2}, "mask"), "sub-204": ({GRE, T1, T2}, "mask")},
        lesions={"sub-101": 1, "sub-204": 1},
    ),
    "miccai_cmb": Layout(swi_and_gre, {"a": ({SWI, GRE}, "mask"), "b": ({SWI}, None)}, lesions={"a": 1}),
    "uk_biobank": Layout(
        biobank,
        {"1000001_2": ({SWI, GRE, PHASE, T1}, "mask"), "1000002_2": ({SWI, GRE, PHASE}, None)},
        ("1000001", "1000002"),
        {"1000001_2": 1},
    ),
    "dou2016": Layout(dou, {"01": ({SWI}, "points"), "02": ({SWI}, "points")}, lesions={"01": 1, "02": 0}),
    "momeni_csiro": Layout(
        csiro, {"242_T0": ({SWI}, "reviewed"), "242_T1": ({SWI}, "points")}, lesions={"242_T0": 0, "242_T1": 1}
    ),
    "oats": Layout(
        waves,
        {"Kim0007_w1": ({SWI, FLAIR}, "mask"), "Kim0007_w2": ({SWI, FLAIR}, None), "Kim0008_w1": ({GRE}, None)},
        ("Kim0007", "Kim0008"),
        {"Kim0007_w1": 1},
    ),
    "mas": Layout(
        waves,
        {"Kim0007_w1": ({SWI, FLAIR}, "mask"), "Kim0007_w2": ({SWI, FLAIR}, None), "Kim0008_w1": ({GRE}, None)},
        ("Kim0007", "Kim0008"),
        {"Kim0007_w1": 1},
    ),
    "tiantan_swi": Layout(
        swi_alone,
        {"Ann0001": ({SWI}, "mask"), "Bob0002": ({SWI}, "mask")},
        ("Ann0001", "Bob0002"),
        {"Ann0001": 1, "Bob0002": 1},
    ),
    "sysu_boxes": Layout(voc_slices, {"Pat0001": ({SWI}, "boxes")}, ("Pat0001",), {"Pat0001": 1}),
}


def test_every_shipped_card_is_tried():
    assert set(LAYOUTS) == set(shipped_cards())


@pytest.mark.parametrize("name", LAYOUTS)
def test_card_finds_the_cases_of_its_layout(name, tmp_path):
    LAYOUTS[name].write(tmp_path)
    found = read_card(f"{name}={tmp_path}")
    assert {case.name: (set(case.images), case.label.kind if case.label else None) for case in found.cases} == LAYOUTS[
        name
    ].cases
    assert found.exclusions == ()
    assert all("a localizer" in left or "a projection" in left for left in found.unmatched)


@pytest.mark.parametrize("name", LAYOUTS)
def test_card_passes_its_check(name, tmp_path, capsys):
    LAYOUTS[name].write(tmp_path)
    assert cohort.main(["check", f"{name}={tmp_path}", "--count-lesions"]) == 0
    out = capsys.readouterr().out
    counted = dict(line.split(": ") for line in out.partition("  lesions: ")[2].splitlines()[1:])
    assert {case.strip(): int(count) for case, count in counted.items()} == LAYOUTS[name].lesions


def hashed() -> list[str]:
    return [name for name in LAYOUTS if parse_card(name).card.privacy.hash_ids]


@pytest.mark.parametrize("name", hashed())
def test_hashed_cards_write_no_identifier(name, tmp_path, capsys):
    LAYOUTS[name].write(tmp_path / "scans")
    workspace = tmp_path / "w"
    arguments = [f"{name}={tmp_path / 'scans'}", "-d", "501", "--workspace", str(workspace), "--brain", "none"]
    assert convert.main(arguments) == 0
    shown = capsys.readouterr()
    written = [path for path in workspace.rglob("*") if path.is_file()]
    assert any(path.name == "cases.tsv" for path in written)
    for identifier in LAYOUTS[name].identifiers:
        assert identifier not in shown.out + shown.err
        for path in written:
            assert identifier not in str(path.relative_to(workspace))
            if not path.name.endswith(".gz"):
                assert identifier.encode() not in path.read_bytes(), path


def test_cards_say_where_they_come_from_and_whether_they_were_tried():
    for name, path in shipped_cards().items():
        text = path.read_text()
        assert text.startswith("# ")
        assert all(len(line) < 121 for line in text.splitlines() if "path:" not in line), name
        assert not any(mark in text for mark in ("&", "<<"))
        assert parse_card(name).card.status == "unverified"


def test_text_in_pictures_is_flagged(tmp_path, capsys):
    from PIL import Image, ImageDraw

    for k in range(3):
        shown = Image.fromarray(np.random.default_rng(k).uniform(60, 90, (120, 160)).astype(np.uint8))
        draw = ImageDraw.Draw(shown)
        draw.rectangle((0, 0, 160, 30), fill=0)
        if k:
            draw.text((4, 8), "DOE JANE 1950", fill=255)
        (tmp_path / "c/images").mkdir(parents=True, exist_ok=True)
        shown.save(tmp_path / f"c/images/p1_{k}.png")
    (tmp_path / "card.yaml").write_text(
        "schema: 1\nname: C\nextends: slices_boxes\nroot: c\nprep: {brain: none}\n"
        "images: {SWI: {slices: null, spacing_mm: [1, 1, 2]}}\n"
    )
    assert convert.main([str(tmp_path / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "w")]) == 0
    log = (tmp_path / "w/raw/Dataset501_C/conversion_log.txt").read_text()
    assert "2 of 3 pictures seem to hold burned-in text (first slice 1)" in log
