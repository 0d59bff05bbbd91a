import gc
import time
import weakref
from threading import Event, get_ident

import pytest

from cmb_autoseg import parallel
from cmb_autoseg.machine import available_bytes
from cmb_autoseg.parallel import choose_workers, in_threads, one_ahead, run_jobs

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


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_give_results_in_order(workers):
    assert list(in_threads(lambda n: (time.sleep(0.01 * (5 - n)), n)[1], range(5), workers)) == list(range(5))


def test_what_a_thread_raises_ends_the_run():
    results = in_threads(lambda n: 6 // n, [3, 2, 0, 1], 2)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_the_next_job_is_done_while_a_result_is_used():
    begun = [Event() for _ in range(3)]

    def work(n):
        begun[n].set()
        return n

    for n, get in enumerate(one_ahead(work, range(3), lambda result, job: job == result + 1)):
        assert n == 2 or begun[n + 1].wait(5)
        assert get() == n


def test_a_job_that_may_not_be_done_beside_is_done_by_the_caller():
    idents = [get() for get in one_ahead(lambda _: get_ident(), range(3), lambda _, job: job != 2)]
    assert [ident == get_ident() for ident in idents] == [True, False, True]


def test_a_job_ahead_that_fails_says_so_in_its_turn():
    gets = one_ahead(lambda n: 6 // n, [3, 0, 2], lambda *_: True)
    assert next(gets)() == 2
    get = next(gets)
    with pytest.raises(ZeroDivisionError):
        get()
    assert next(gets)() == 3


def test_who_leaves_does_not_wait_for_the_job_ahead():
    never = Event()
    gets = one_ahead(lambda n: n == 0 or never.wait(20), range(2), lambda *_: True)
    next(gets)()
    begun = time.monotonic()
    gets.close()
    assert time.monotonic() - begun < 5
    never.set()


def test_a_result_is_let_go_of():
    class Large:
        pass

    for get in one_ahead(lambda _: Large(), range(2), lambda *_: True):
        kept = weakref.ref(get())
        gc.collect()
        assert kept() is None
