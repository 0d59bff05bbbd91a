"""Options of the test run."""


def pytest_addoption(parser):
    parser.addoption(
        "--kills", type=int, default=2, metavar="N", help="moments at which each command is killed (default 2)"
    )
