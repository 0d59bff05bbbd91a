import os

from cmb_autoseg.trainers.model_copy import copy_fold


def model(folder, *folds):
    folder.mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (folder / name).write_text(f"{{}} {folder.name}")
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        (folder / f"fold_{fold}" / "checkpoint_final.pth").write_bytes(b"weights %d" % fold)
        (folder / f"fold_{fold}" / "progress.png").write_bytes(b"")
    return folder


def test_one_fold_is_copied_with_the_models_inside(tmp_path):
    source = model(tmp_path / "outer", 0, 1)
    model(source / "members" / "inner", 0, 1)
    (source / "crossvalidation").mkdir()
    (source / "crossvalidation" / "case_prob.nii.gz").write_bytes(b"")
    target = tmp_path / "copy"
    copy_fold(source, target, 1)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == [
        "dataset.json",
        "fold_1/checkpoint_final.pth",
        "members/inner/dataset.json",
        "members/inner/fold_1/checkpoint_final.pth",
        "members/inner/plans.json",
        "plans.json",
    ]
    copy_fold(source, target, 0)
    assert (target / "fold_0" / "checkpoint_final.pth").read_bytes() == b"weights 0"
    assert (target / "fold_1" / "checkpoint_final.pth").read_bytes() == b"weights 1"


def test_a_checkpoint_is_linked_and_a_new_one_does_not_change_the_copy(tmp_path):
    source, target = model(tmp_path / "source", 0), tmp_path / "copy"
    copy_fold(source, target, 0)
    original, copied = source / "fold_0" / "checkpoint_final.pth", target / "fold_0" / "checkpoint_final.pth"
    assert copied.stat().st_ino == original.stat().st_ino
    new = source / "fold_0" / "new"
    new.write_bytes(b"trained anew")
    new.replace(original)
    assert copied.read_bytes() == b"weights 0"
    copy_fold(source, target, 0)
    assert copied.read_bytes() == b"trained anew"


def test_without_links_it_is_a_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    source, target = model(tmp_path / "source", 0), tmp_path / "copy"
    copy_fold(source, target, 0)
    assert (target / "fold_0" / "checkpoint_final.pth").read_bytes() == b"weights 0"
