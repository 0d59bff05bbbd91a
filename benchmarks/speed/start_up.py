"""How long a command takes to say what it can do, or what is wrong with its arguments, beside `nnUNetv2_predict -h`.

    python benchmarks/speed/start_up.py [-n REPEATS] [-o OUT]

Every command runs with `--help` and with arguments that are refused, alternating with nnU-Net's.
"""

import argparse
import statistics
from pathlib import Path

from common import Run, alternate, command, save, spread

COMMANDS = (
    "cohort", "convert", "plan_preprocess", "pretrain", "train", "finalize", "predict", "explain", "compare", "bids",
    "evaluate", "simulate", "demo",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--few", action="store_true", help="cmb_predict, cmb_train and cmb_plan_preprocess alone")
    parser.add_argument("-o", type=Path, default=Path("start_up"), help="name of the results, without .json and .md")
    args = parser.parse_args()
    arms = {"nnUNetv2_predict -h": lambda _: command(["nnUNetv2_predict", "-h"])}
    for name in ("predict", "train", "plan_preprocess") if args.few else COMMANDS:
        arms[f"cmb_{name} --help"] = lambda _, name=name: command([f"cmb_{name}", "--help"])
        arms[f"cmb_{name} --nonsense"] = lambda _, name=name: command([f"cmb_{name}", "--nonsense"], codes=(2,))
    runs = alternate(arms, args.n)
    theirs = runs["nnUNetv2_predict -h"]

    def row(name: str, own: list[Run]) -> dict[str, str]:
        shares = [100 * run.seconds / other.seconds for run, other in zip(own, theirs, strict=True)]
        return {"": f"`{name}`", "seconds": spread([run.seconds for run in own]), "% of theirs": spread(shares)}

    rows = [row(name, own) for name, own in runs.items()]
    worst = max(statistics.median(run.seconds for run in own) for name, own in runs.items() if own is not theirs)
    told = (
        f"{args.n} runs each, alternating; the slowest of ours takes {worst:.2f} s. Median, least and most; the "
        "share is of nnU-Net's run of the same turn."
    )
    raw = {"seconds": {name: [run.seconds for run in own] for name, own in runs.items()}}
    save(args.o, "Help and wrong arguments", told, rows, raw)


if __name__ == "__main__":
    main()
