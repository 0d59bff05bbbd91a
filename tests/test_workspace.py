"""Names of folders by which nnU-Net finds them."""

from cmb_autoseg import workspace
from cmb_autoseg._nnunet import CONFIGURATION
from cmb_autoseg.workspace import DatasetFolders, model_folder_name


def test_what_nnunet_finds_is_named_after_its_one_configuration(tmp_path, monkeypatch):
    folders = DatasetFolders(tmp_path, "Dataset501_A")
    assert CONFIGURATION == workspace.CONFIGURATION == "3d"
    assert folders.model("demo", "s0").name == model_folder_name("demo_s0") == "CMBTrainer__demo_s0__3d"

    monkeypatch.setattr(workspace, "CONFIGURATION", "other")
    assert folders.inputs("adaptive").name == "adaptive_other"
    assert folders.inputs_for("Dataset502_B", "s0").name == "Dataset502_B_s0_other"
    assert folders.model("demo").name == "CMBTrainer__demo__other"
