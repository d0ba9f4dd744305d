"""Jobs in processes of their own: one that dies takes its file along and nothing else.

Each worker is a pool of one process, so it is known which file a process died of. That file is tried once more when all
others are done, alone: a process that the system killed because many together had no memory left gets it all then.

Every worker holds one end of a pipe, the lifeline. When the main process closes the other end, or ends in whatever way,
the workers drop what they are doing, remove their unfinished folders and end as well.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import cv2

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw.batch.inputs import Job

Work = Callable[[Job], dict[str, Any]]
"""Does one job and returns the content of its sidecar. For other processes it must be picklable: an object of a frozen
dataclass with ``__call__``, defined in a module."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GRACE_S = 5.0


@dataclass(frozen=True)
class Answer:
    """The content of a sidecar, or why there is none."""

    record: dict[str, Any] | None
    error: str | None = None


def attempt(work: Work, job: Job) -> Answer:
    """Do one job; whatever goes wrong is told in words, for the other files to go on."""
    try:
        return Answer(work(job))
    except DualpixError as error:
        return Answer(None, str(error))
    except MemoryError:
        return Answer(None, f"not enough memory for '{job.path.name}'")
    except Exception as error:
        text = " ".join(str(error).split())
        return Answer(None, f"'{job.path.name}': unexpected {type(error).__name__}: {text}; --debug shows where")


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_processes(work: Work, jobs: Sequence[Job], processes: int) -> Iterator[tuple[int, Answer]]:
    """Do ``jobs`` in that many processes; yields (index, answer) in the order in which they end.

    Closing the iterator stops the workers; nothing half-done stays.
    """
    context = multiprocessing.get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)
    threads = max(1, cpu_count() // processes)
    with ExitStack() as stack:
        stack.enter_context(_environment(dict.fromkeys(_THREAD_VARIABLES, str(threads))))
        workers = [_Worker(lifeline, threads) for _ in range(processes)]
        for worker in workers:
            stack.callback(worker.close)
        stack.callback(lifeline.close)
        stack.callback(held.close)  # first of all on the way out: the workers end
        suspects = yield from _shared_out(work, jobs, workers)
        for index in suspects:
            yield index, _alone(work, jobs[index], workers[0])


def _shared_out(
    work: Work, jobs: Sequence[Job], workers: Sequence[_Worker]
) -> Generator[tuple[int, Answer], None, list[int]]:
    """Yields answers; returns the jobs whose worker died."""
    waiting, idle = deque(range(len(jobs))), list(workers)
    running: dict[Future[Answer], tuple[_Worker, int]] = {}
    suspects: list[int] = []
    while waiting or running:
        while waiting and idle:
            worker, index = idle.pop(), waiting.popleft()
            running[worker.submit(work, jobs[index])] = worker, index
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            worker, index = running.pop(future)
            idle.append(worker)
            try:
                answer = future.result()
            except BrokenProcessPool:
                suspects.append(index)
                continue
            yield index, answer
    return suspects


def _alone(work: Work, job: Job, worker: _Worker) -> Answer:
    try:
        return worker.submit(work, job).result()
    except BrokenProcessPool:
        worker.close()  # its exit code is known from here on
        return Answer(
            None,
            f"the process that worked on '{job.path.name}' died twice, the second time alone"
            f" ({worker.cause_of_death()}); the file may be damaged, or need more memory than there is",
        )


class _Worker:
    """One process, replaced when it has died."""

    def __init__(self, lifeline: Connection, threads: int) -> None:
        self._start = (lifeline, threads)
        self._pool = self._new_pool()
        self._process: multiprocessing.process.BaseProcess | None = None

    def submit(self, work: Work, job: Job) -> Future[Answer]:
        try:
            return self._submit(work, job)
        except BrokenProcessPool:  # died of the last job, or since
            self.close()
            self._pool = self._new_pool()
            return self._submit(work, job)

    def cause_of_death(self) -> str:
        """E.g. "signal SIGSEGV"."""
        code = self._process.exitcode if self._process else None
        if code is None:
            return "for unknown reasons"
        try:
            return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        except ValueError:
            return f"signal {-code}"

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=self._start)

    def _submit(self, work: Work, job: Job) -> Future[Answer]:
        before = set(multiprocessing.active_children())
        with _interrupts_held_back():
            future = self._pool.submit(_attempt_or_leave, work, job)
        started = set(multiprocessing.active_children()) - before
        self._process = next(iter(started), self._process)
        return future


def _begin(lifeline: Connection, threads: int) -> None:
    """In a new worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the main process decides
    signal.signal(signal.SIGTERM, _leave)
    cv2.setNumThreads(threads)
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()


def _follow(lifeline: Connection) -> None:
    """End this process when the main process lets go of the lifeline."""
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(_GRACE_S)  # for the unfinished folder to be removed
    os._exit(1)


def _leave(*_: object) -> NoReturn:
    """Where no job is being done there is nothing to remove, and nobody who would catch an exception."""
    os._exit(128 + signal.SIGTERM)


def _stop(*_: object) -> NoReturn:
    """In a job: up through its ``with`` blocks, which remove what is unfinished."""
    raise SystemExit(128 + signal.SIGTERM)


def _attempt_or_leave(work: Work, job: Job) -> Answer:
    try:
        signal.signal(signal.SIGTERM, _stop)
        answer = attempt(work, job)
        signal.signal(signal.SIGTERM, _leave)
    except SystemExit:  # the executor would take it for the job's result and go on
        _leave()
    return answer


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process that is started within ignores Ctrl-C from its first moment; here it takes effect afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes started within, as far as the user has not set them."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
