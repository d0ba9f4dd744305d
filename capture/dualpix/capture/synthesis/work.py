"""What a process or a cluster worker does: a sample to a folder, or some samples to a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.batch.resume import request_of
from dualpix.capture.synthesis.settings import RenderSettings, SampleSpec
from dualpix.capture.synthesis.store import (
    DepthFormat,
    ShardWriter,
    ViewFormat,
    digest_of,
    members_of,
    with_sharp,
    write_folder,
)

SIDECAR = "render.json"
SHARD = "samples.tar"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RenderJob(Job):
    """Samples that become one result folder."""

    specs: tuple[SampleSpec, ...] = ()


@dataclass(frozen=True)
class RenderWork:
    """Render a job's samples and write its result folder; goes to other processes as it is."""

    settings: RenderSettings
    views: ViewFormat = "png"
    depth: DepthFormat = "npy"
    shards: bool = False

    def __call__(self, job: Job) -> dict[str, Any]:
        """The content of ``render.json``. In a shard, samples that fail are left out and named in ``failed``.

        Raises:
            DualpixError: the sample of a folder fails, or none of a shard succeeds.
        """
        if not isinstance(job, RenderJob):
            raise TypeError(f"{type(job).__name__} is no render job")
        with atomic_dir(job.folder, SIDECAR) as folder:
            record = self._shard(folder, job) if self.shards else self._folder(folder, job)
            write_json(folder / SIDECAR, record)
        return record

    def _folder(self, folder: Path, job: RenderJob) -> dict[str, Any]:
        (spec,) = job.specs
        members, warnings = self._members(spec)
        return self._record(job, write_folder(folder, members), [spec.key], [], warnings)

    def _shard(self, folder: Path, job: RenderJob) -> dict[str, Any]:
        keys: list[str] = []
        failed: list[dict[str, str]] = []
        warnings: list[str] = []
        with ShardWriter(folder / SHARD) as shard:
            for spec in job.specs:
                try:
                    members, warned = self._members(spec)
                except DualpixError as error:
                    failed.append({"key": spec.key, "error": str(error)})
                    continue
                shard.add(spec.key, members)
                keys.append(spec.key)
                warnings += warned
        if not keys:
            raise DualpixError(f"no sample of shard '{job.folder.name}' could be rendered: {failed[0]['error']}")
        return self._record(job, [digest_of(folder / SHARD)], keys, failed, warnings)

    def _members(self, spec: SampleSpec) -> tuple[dict[str, bytes], list[str]]:
        from dualpix.capture.synthesis.sample import render_sample  # torch

        sample = render_sample(spec, self.settings)
        members = (with_sharp if self.settings.all_in_focus else members_of)(sample, self.views, self.depth)
        return members, list(sample.view.warnings)

    def _record(
        self,
        job: RenderJob,
        files: list[dict[str, Any]],
        keys: list[str],
        failed: list[dict[str, str]],
        warnings: list[str],
    ) -> dict[str, Any]:
        return {
            "format": 1,
            "samples": keys,
            "failed": failed,
            "warnings": warnings,
            "settings": self.settings.to_json(),
            "files": files,
            "request": job.request,
        }


def render_jobs(specs: Sequence[SampleSpec], work: RenderWork, output: Path, shard_size: int) -> list[RenderJob]:
    """One job per sample, or per ``shard_size`` samples where ``work`` writes shards."""
    if not work.shards:
        return [_job(output / spec.key, (spec,), work) for spec in specs]
    parts = [tuple(specs[at : at + shard_size]) for at in range(0, len(specs), shard_size)]
    return [_job(output / f"shard-{number:06}", part, work) for number, part in enumerate(parts)]


def _job(folder: Path, specs: tuple[SampleSpec, ...], work: RenderWork) -> RenderJob:
    names = {spec.source.name if spec.source else f"scene {spec.key}" for spec in specs}
    label = Path(folder.name if len(specs) > 1 else names.pop().replace("/", "-"))
    files = [path for spec in specs if spec.source for path in spec.source.inputs]
    asked = {"render": work.settings.to_json(), "views": work.views, "depth": work.depth, "shards": work.shards}
    options = {"settings": asked, "keys": [spec.key for spec in specs], "files": files}
    indices = [spec.source.index if spec.source else -1 for spec in specs]
    job = RenderJob(label, None, folder, specs=specs)
    return RenderJob(label, None, folder, request=request_of(job, {**options, "indices": indices}), specs=specs)
