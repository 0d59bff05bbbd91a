import importlib
from pathlib import Path

from cmb_autoseg.cli import demo


def test_every_step_of_the_demo_is_a_command_that_understands_its_arguments():
    steps = demo.steps(Path("out"), "cpu", 3)
    assert [name for name, _, _ in steps] == [
        "cmb_simulate",
        "cmb_convert",
        "cmb_plan_preprocess",
        "cmb_train",
        "cmb_predict",
        "cmb_evaluate",
    ]
    for name, main, arguments in steps:
        module = importlib.import_module(f"cmb_autoseg.cli.{name.removeprefix('cmb_')}")
        assert main is module.main
        parsed = module.build_parser().parse_args(arguments)
        assert not hasattr(parsed, "seed") or parsed.seed == 3


def test_a_step_that_fails_ends_the_demo(monkeypatch, tmp_path, capsys):
    called = []

    def fail(arguments):
        called.append("fail")
        return 2

    def never(arguments):
        called.append("never")
        return 0

    monkeypatch.setattr(demo, "steps", lambda *_: [("cmb_a", fail, ["-x"]), ("cmb_b", never, [])])
    assert demo.main(["-o", str(tmp_path)]) == 2
    assert called == ["fail"]
    assert "cmb_a -x" in capsys.readouterr().out
