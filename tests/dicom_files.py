"""Small DICOM series for tests: classic and enhanced MR, in any orientation."""

from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass
class Scan:
    """Where and what: grey values of shape (columns, rows, slices) and how they lie."""

    data: np.ndarray
    row: np.ndarray = field(default_factory=lambda: np.array([1.0, 0, 0]))
    """LPS direction in which columns count up."""
    column: np.ndarray = field(default_factory=lambda: np.array([0, 1.0, 0]))
    origin_mm: np.ndarray = field(default_factory=lambda: np.array([-50.0, -40.0, 30.0]))
    spacing_mm: tuple = (0.9, 0.8, 2.0)
    """Between columns, rows, slices; slices run against the normal where negative."""

    @property
    def directions(self):
        return np.stack([self.row, self.column, np.cross(self.row, self.column)], axis=1)

    def position(self, k):
        return self.origin_mm + self.directions[:, 2] * self.spacing_mm[2] * k

    def assert_equals(self, volume, scale=1.0, shift=0.0):
        """Every grey value of a volume lies where it was."""
        index = np.indices(self.data.shape).reshape(3, -1)
        steps = self.directions * np.array(self.spacing_mm)
        places_mm = (LPS_TO_RAS @ (self.origin_mm[:, None] + steps @ index)).T
        voxels = volume.to_voxels(places_mm)
        np.testing.assert_allclose(voxels, np.rint(voxels), atol=1e-3)
        found = volume.data[tuple(np.rint(voxels).astype(int).T)]
        assert np.prod(volume.shape) == self.data.size
        np.testing.assert_allclose(found, self.data.ravel() * scale + shift)


def scan(seed=0, shape=(7, 6, 5), **geometry):
    return Scan(np.random.default_rng(seed).integers(0, 4000, size=shape), **geometry)


def rotated(seed, **geometry):
    """A scan in a random orientation."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    step_mm = 2.0 * rng.choice([-1, 1])
    return scan(
        seed, row=turn[:, 0], column=turn[:, 1], origin_mm=rng.normal(size=3) * 60, spacing_mm=(0.9, 0.8, step_mm),
        **geometry,
    )  # fmt: skip


def _decimals(values):
    return [f"{value:.9f}"[:15] for value in values]


def _described(dataset, tags):
    for keyword, value in tags.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def _file(sop_class, uid, syntax):
    dataset, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = sop_class, uid, syntax
    dataset.file_meta = meta
    return _described(dataset, {"SOPClassUID": sop_class, "SOPInstanceUID": uid})


def _person(series):
    return {
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19400102",
        "AccessionNumber": "ACC777",
        "InstitutionName": "General Hospital",
        "StudyDate": "20200101",
        "StudyTime": "113355",
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series", str(series)]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame"]),
        "Modality": "MR",
        "Manufacturer": "SIEMENS",
        "MagneticFieldStrength": "3",
        "SeriesNumber": series,
    }


def _pixels(rows, columns):
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
    }


def write_series(folder, volume, series=3, order=None, syntax=ExplicitVRLittleEndian, compress=None, first=1, **tags):
    """Write one classic series, a file a slice; `order` is that of instance numbers and names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    slices = range(volume.data.shape[2]) if order is None else order
    for number, k in enumerate(slices, start=first):
        uid = generate_uid(entropy_srcs=[str(folder), str(series), str(number), str(tags)])
        dataset = _file(tags.get("SOPClassUID", MRImageStorage), uid, syntax)
        described = {
            **_person(series),
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "SeriesDescription": "swi",
            "SeriesTime": "120100",
            "AcquisitionTime": "120100",
            "EchoTime": "20",
            "EchoNumbers": 1,
            "RepetitionTime": "30",
            "ScanningSequence": "GR",
            "MRAcquisitionType": "3D",
            "InstanceNumber": number,
            "AcquisitionNumber": 1,
            "ImageOrientationPatient": _decimals((*volume.row, *volume.column)),
            "ImagePositionPatient": _decimals(volume.position(k)),
            "PixelSpacing": _decimals((volume.spacing_mm[1], volume.spacing_mm[0])),
            "SliceThickness": str(abs(volume.spacing_mm[2])),
            **_pixels(volume.data.shape[1], volume.data.shape[0]),
            **tags,
        }
        _described(dataset, described)
        dataset.PixelData = np.ascontiguousarray(volume.data[:, :, k].T).astype("<u2").tobytes()
        if compress is not None:
            dataset.compress(compress)
        paths.append(folder / f"S{series}_{number:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _item(**tags):
    return Sequence([_described(Dataset(), tags)])


def write_enhanced(path, volumes, series=3, compress=None, **tags):
    """Write one enhanced multi-frame file.

    Args:
        path: of the file.
        volumes: triples of a scan, its echo time in ms and what it is: MAGNITUDE, PHASE.
        series: number.
        compress: a transfer syntax.
        tags: of the file's top level.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    first = volumes[0][0]
    uid = generate_uid(entropy_srcs=[str(path), "file"])
    dataset = _file(EnhancedMRImageStorage, uid, ExplicitVRLittleEndian)
    columns, rows, count = first.data.shape
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(
        PixelSpacing=_decimals((first.spacing_mm[1], first.spacing_mm[0])), SliceThickness=str(abs(first.spacing_mm[2]))
    )
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=_decimals((*first.row, *first.column)))
    shared.MRTimingAndRelatedParametersSequence = _item(RepetitionTime="30", FlipAngle="15")
    frames, pixels = [], []
    for k in range(count):  # echoes and parts interleaved, as scanners do
        for volume, echo_time_ms, component in volumes:
            frame = Dataset()
            frame.PlanePositionSequence = _item(ImagePositionPatient=_decimals(volume.position(k)))
            frame.MREchoSequence = _item(EffectiveEchoTime=float(echo_time_ms))
            frame.MRImageFrameTypeSequence = _item(
                FrameType=["ORIGINAL", "PRIMARY", component[0], "NONE"], ComplexImageComponent=component
            )
            slope, intercept = ("2", "-4096") if component == "PHASE" else ("1", "0")
            frame.PixelValueTransformationSequence = _item(
                RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US"
            )
            frames.append(frame)
            pixels.append(np.ascontiguousarray(volume.data[:, :, k].T).astype("<u2"))
    _described(
        dataset,
        {
            **_person(series),
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "NONE"],
            "SeriesDescription": "swi",
            "MRAcquisitionType": "3D",
            "EchoPulseSequence": "GRADIENT",
            "AcquisitionDateTime": "20200101120100",
            "InstanceNumber": 1,
            "NumberOfFrames": len(frames),
            **_pixels(rows, columns),
            **tags,
        },
    )
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.PixelData = np.stack(pixels).tobytes()
    if compress is not None:
        dataset.compress(compress)
    dataset.save_as(path, enforce_file_format=True)
    return path
