"""Work on many cases at a time, with as many processes as the memory holds; one that dies stops no other."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from threading import Thread
from typing import TypeVar

from cmb_autoseg.interruption import end_with
from cmb_autoseg.machine import available_bytes, available_cores

__all__ = ["choose_workers", "in_threads", "one_ahead", "run_jobs"]

Job = TypeVar("Job")
Result = TypeVar("Result")

SHARE_OF_MEMORY = 0.8
"""The rest is for the page cache and whatever else runs."""


def choose_workers(n_jobs: int, bytes_each: int, jobs_each: int) -> int:
    """How many processes to start: no more than cores, than fit into memory, and than are worth their start.

    Args:
        n_jobs: to be done.
        bytes_each: memory that one process needs.
        jobs_each: fewer jobs than this for a process do not repay its start, which imports everything anew.
    """
    fitting = int(SHARE_OF_MEMORY * available_bytes() // max(bytes_each, 1))
    return max(1, min(available_cores(), fitting, n_jobs // max(jobs_each, 1)))


def in_threads(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Yield the result of each job in order, worked on by threads of this process, which start at once.

    For work that is done in compiled code: decompression, arrays, files. No more than one result a thread waits.

    Args:
        work: whatever it raises ends the run.
        jobs: what it is called with.
        workers: threads; with one, everything is done in this one.
    """
    if workers <= 1:
        yield from map(work, jobs)
        return
    waiting = deque[Future[Result]]()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def one_ahead(
    work: Callable[[Job], Result], jobs: Sequence[Job], may: Callable[[Result, Job], bool]
) -> Iterator[Callable[[], Result]]:
    """How to get the result of each job, once; while the caller uses it, a thread may work on the next job.

    What `work` raises is raised where its result is got. A caller that leaves early does not wait for the thread.

    Args:
        work: is called with each job, in order.
        jobs: what it is called with.
        may: given a result and the job after it, whether that one may be begun beside.
    """
    ready: list[Future[Result]] = []  # which nobody holds on to once it is used
    ahead: Future[Result] | None = None
    for index, job in enumerate(jobs):
        own = ahead or _done(Future(), work, job)
        wait([own])
        ahead = None
        if index + 1 < len(jobs) and own.exception() is None and may(own.result(), jobs[index + 1]):
            ahead = Future()
            Thread(target=_done, args=(ahead, work, jobs[index + 1]), daemon=True).start()
        ready.append(own)
        del own
        yield lambda: ready.pop().result()


def _done(future: Future[Result], work: Callable[[Job], Result], job: Job) -> Future[Result]:
    try:
        future.set_result(work(job))
    except Exception as error:  # of any kind, for whoever gets the result
        future.set_exception(error)
    return future


def run_jobs(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, died: Callable[[Job], Result]
) -> Iterator[Result]:
    """Yield the result of each job in order.

    Args:
        work: a function of a module; whatever it raises ends the run.
        jobs: what it is called with; picklable.
        workers: processes; with one, everything is done in this one.
        died: the result of a job whose process was killed, as for want of memory.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    done = 0
    try:
        with _pool(min(workers, len(jobs))) as pool:
            for result in pool.map(work, jobs):
                yield result
                done += 1
    except BrokenProcessPool:
        # Nobody can say whose process it was: the rest goes on one process a job.
        for job in jobs[done:]:
            yield _alone(work, job, died)


def _alone(work: Callable[[Job], Result], job: Job, died: Callable[[Job], Result]) -> Result:
    try:
        with _pool(1) as pool:
            return pool.submit(work, job).result()
    except BrokenProcessPool:
        return died(job)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=end_with, initargs=(os.getpid(),))
