"""Jobs on a dask.distributed scheduler, for more than one machine.

All workers must see the inputs and the output folder under the same paths as the machine that asks, and run the same
version of dualpix. Worker processes of one thread each are best (``dask worker --nworkers -1 --nthreads 1``): native
decoding takes turns within a process. dask's messages are pickles: use only clusters you trust.
"""

from __future__ import annotations

import asyncio
import os
import queue
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import parse_json
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.batch.pool import Answer, Work, attempt

_CONNECT_S = 10
_LOOK_S = 5.0
_EXPECTED = "HOST:PORT of a running 'dask scheduler', or its scheduler file"
_ADDRESS = re.compile(r"(\w+://)?(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}/?")


def run_on_cluster(
    work: Work, jobs: Sequence[Job], address: str, sidecar: str, say: Callable[[str], None]
) -> Iterator[tuple[int, Answer]]:
    """Do ``jobs`` on the workers of a scheduler; yields (index, answer) in the order in which they end.

    A job whose worker is lost is given to another one, as often as the scheduler's ``distributed.scheduler.
    allowed-failures`` says (3 by default). One that failed so, or that someone else's restart of the cluster cancelled,
    is tried once more when all others have ended.

    Where no worker is left the jobs wait, as a queue may start new ones, and the user is told: a nanny whose new worker
    cannot reach the scheduler in time, as on a machine with too much to do, closes for good (distributed 2026.8.0,
    ``Nanny.instantiate``), and a scheduler without workers waits without end and without a word
    (``distributed.scheduler.no-workers-timeout`` is null).

    Args:
        work: see :data:`~dualpix.capture.raw.batch.pool.Work`.
        jobs: the captures.
        address: of the scheduler, e.g. ``tcp://host:8786``, or the path of its scheduler file.
        sidecar: the file that every result has; looked for to see that the workers write to the same place.
        say: shows a line to the user.

    Raises:
        DualpixError: dask.distributed is not installed, no scheduler answers, or its workers run another version.
    """
    distributed = _distributed()
    client = _connected(distributed, address)
    try:
        _check_workers(client, address, say)
        suspects = []
        for index, result in _ended(distributed, client, work, dict(enumerate(jobs)), say):
            if _is_killed(result) or (_is_cancelled(result) and client.status == "running"):
                suspects.append(index)
            else:
                yield index, _answer(result, jobs[index], sidecar)
        # The scheduler also blames what waited on a worker that another job brought down: alone, the guilty one shows.
        for suspect in suspects:
            for index, result in _ended(distributed, client, work, {suspect: jobs[suspect]}, say):
                yield index, _answer(result, jobs[index], sidecar)
    finally:
        client.close()  # whatever is still waiting is dropped with it


def _ended(
    distributed: Any, client: Any, work: Work, jobs: Mapping[int, Job], say: Callable[[str], None]
) -> Iterator[tuple[int, Any]]:
    """(index, what came back) of each job as it ends."""
    run = uuid.uuid4().hex[:12]
    futures = {
        client.submit(_attempt_there, work, _absolute(job), key=f"dualpix-{run}-{index}", pure=False): index
        for index, job in jobs.items()
    }
    # Results come along: one that is fetched later may be lost with its worker, and be worked out again.
    ended = distributed.as_completed(list(futures), loop=client.loop, with_results=True, raise_errors=False)
    arrived: queue.Queue[tuple[Any, Any] | Exception] = queue.Queue()
    threading.Thread(target=_pass_on, args=(ended, arrived), daemon=True).start()  # ends with the client at the latest
    watch = _Watch(client, say)
    while futures:
        try:
            came = arrived.get(timeout=_LOOK_S)
        except queue.Empty:
            watch.look(len(futures))
            continue
        if isinstance(came, Exception):
            raise came
        future, result = came
        yield futures.pop(future), result
        future.release()


def _pass_on(ended: Any, arrived: queue.Queue[tuple[Any, Any] | Exception]) -> None:
    """dask's own iterator cannot be left for a moment to look after the workers."""
    try:
        for future, result in ended:
            arrived.put((future, result))
    except Exception as error:
        arrived.put(error)


class _Watch:
    """Tells the user, once each time, that no worker is left, and that there are some again."""

    def __init__(self, client: Any, say: Callable[[str], None]) -> None:
        self._client, self._say = client, say
        self._alone = False

    def look(self, waiting: int) -> None:
        """While nothing ends."""
        try:
            alone = not self._client.nthreads()
        except Exception:  # the scheduler is lost or too busy: its futures will say so
            return
        if alone and not self._alone:
            files = "1 file waits" if waiting == 1 else f"{waiting} files wait"
            self._say(
                f"dualpix: no worker of the cluster is left, {files} for one; start some (dask worker"
                f" {self._client.scheduler.address}), or stop with Ctrl-C and go on with --resume, here or there"
            )
        if self._alone and not alone:
            self._say("dualpix: the cluster has workers again")
        self._alone = alone


def _is_killed(result: Any) -> bool:
    return type(_error(result)).__name__ == "KilledWorker"


def _is_cancelled(result: Any) -> bool:
    return "Cancelled" in type(_error(result)).__name__


def _error(result: Any) -> Any:
    """The exception itself, which may come in a triple with type and traceback."""
    return result[1] if isinstance(result, tuple) else result


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise DualpixError(
            "--cluster needs dask.distributed, which is not installed", hint="pip install 'dualpix[cluster]'"
        ) from error


def _connected(distributed: Any, target: str) -> Any:
    address = _address(target)
    try:
        kind = asyncio.run(asyncio.wait_for(_kind(distributed, address), _CONNECT_S))
        if kind == "Scheduler":
            return distributed.Client(address, timeout=_CONNECT_S, set_as_default=False, name="dualpix")
        raise DualpixError(f"'{target}' is a {kind}", expected=_EXPECTED)
    except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        raise DualpixError(f"no scheduler answers at '{target}'", expected=_EXPECTED) from error


def _address(target: str) -> str:
    """The address in ``target`` or in the scheduler file that it names."""
    path = Path(target)
    address = target
    if path.suffix == ".json" or path.is_file():
        try:
            address = str(parse_json(path.read_bytes(), "it", _EXPECTED)["address"])
        except (OSError, KeyError, TypeError, DualpixError) as error:
            raise DualpixError(f"no scheduler file '{target}'", expected=_EXPECTED) from error
    if not _ADDRESS.fullmatch(address):
        raise DualpixError(f"'{address}' is no address of a scheduler", expected=_EXPECTED)
    return address


async def _kind(distributed: Any, address: str) -> str:
    """What answers at an address. A client that is started on anything but a scheduler may never return."""
    secrets = distributed.Security().get_connection_args("client")
    comm = await distributed.core.connect(address, timeout=_CONNECT_S, **secrets)
    try:
        await comm.write({"op": "identity", "reply": True})
        return str((await comm.read())["type"])
    finally:
        comm.abort()


def _check_workers(client: Any, address: str, say: Callable[[str], None]) -> None:
    """All workers must have our version; there may be none yet, where a queue starts them on demand.

    Raises:
        DualpixError: another version, or none.
    """
    answers = client.run(version, "dualpix", on_error="return")
    if not answers:
        say(f"the scheduler at {address} has no workers yet, waiting for them")
    for worker, answer in answers.items():
        if isinstance(answer, OSError):  # being replaced at this moment, or too busy: says nothing of its version
            say(f"dualpix: worker {worker} does not answer; its version of dualpix is not known")
        elif answer != version("dualpix"):
            found = f"dualpix {answer}" if isinstance(answer, str) else "no dualpix"
            raise DualpixError(f"worker {worker} has {found}", expected=f"dualpix {version('dualpix')} as here")


def _absolute(job: Job) -> Job:
    def absolute(path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    return replace(
        job,
        path=job.path.absolute(),
        right=absolute(job.right),
        sub=absolute(job.sub),
        folder=job.folder.absolute(),
    )


def _attempt_there(work: Work, job: Job) -> Answer:
    """On a worker."""
    worker = _distributed().get_worker()
    cv2.setNumThreads(max(1, worker.state.nthreads))
    answer = attempt(work, job)
    return answer if answer.error is None else Answer(None, f"{answer.error} (on worker {worker.address})")


def _answer(result: Any, job: Job, sidecar: str) -> Answer:
    """What came back: an answer or an exception."""
    name = job.path.name
    if isinstance(result, Answer):
        if result.record is None or _is_visible(job.folder / sidecar):
            return result
        return Answer(
            None, f"a worker wrote '{job.folder}', but it is not there; workers must see the paths that are here"
        )
    error = _error(result)
    kind = type(error).__name__
    if _is_killed(result):
        return Answer(None, f"all workers that tried '{name}' died, the last one was {error.last_worker.address}")
    if _is_cancelled(result):
        return Answer(None, f"'{name}' was given up: the scheduler was lost, or dropped the job")
    return Answer(None, f"'{name}': {kind}: {' '.join(str(error).split())}")


def _is_visible(path: Path) -> bool:
    """Listing the folders first makes network file systems look again."""
    for folder in (path.parent.parent, path.parent):
        if not folder.is_dir():
            return False
        os.listdir(folder)  # noqa: PTH208 - for its effect
    return path.is_file()
