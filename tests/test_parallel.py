import pytest

from cmb_autoseg import parallel
from cmb_autoseg.parallel import available_bytes, choose_workers, run_jobs

GB = 10**9


def died(job: str) -> str:
    return f"{job} died"


def test_results_come_in_order_of_the_jobs():
    assert list(run_jobs(len, ["a", "bbb", "cc"], 1, died)) == [1, 3, 2]


def test_a_process_that_dies_costs_its_own_job_alone():
    fatal = "__import__('os')._exit(3)"
    assert list(run_jobs(eval, ["1 + 1", fatal, "2 + 2"], 2, died)) == [2, f"{fatal} died", 4]


def test_what_a_job_raises_ends_the_run():
    with pytest.raises(ZeroDivisionError):
        list(run_jobs(eval, ["1", "1 / 0"], 1, died))


@pytest.mark.parametrize(
    ("n_jobs", "bytes_each", "jobs_each", "workers"),
    [
        (1000, 1 * GB, 10, 8),  # no more than cores
        (1000, 4 * GB, 10, 4),  # than fit into 80 % of 20 GB
        (1000, 50 * GB, 10, 1),  # at least one
        (35, 1 * GB, 10, 3),  # than are worth their start
        (9, 1 * GB, 10, 1),
    ],
)
def test_workers_are_bounded_by_cores_memory_and_work(n_jobs, bytes_each, jobs_each, workers, monkeypatch):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(parallel, "available_bytes", lambda: 20 * GB)
    assert choose_workers(n_jobs, bytes_each, jobs_each) == workers


def test_memory_is_measured():
    assert 10**7 < available_bytes() < 10**14
