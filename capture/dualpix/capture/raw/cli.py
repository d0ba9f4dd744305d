"""``dualpix decode``: dual-pixel raws to left / right / combined views."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dualpix.capture.command.options import FILE, json_option
from dualpix.capture.command.terminal import echo_json, figures_table
from dualpix.capture.errors import OutputError
from dualpix.capture.files import make_output_dir
from dualpix.capture.raw.batch.jobs import (
    Batch,
    DecodeOptions,
    Job,
    Outcome,
    batch_options,
    decode_options,
    jobs_of,
    pair_options,
    run_jobs,
)
from dualpix.capture.raw.batch.output_settings import OutputSettings, output_options
from dualpix.capture.raw.batch.outputs import SIDECAR, read_schema, write_capture
from dualpix.capture.raw.batch.resume import with_requests
from dualpix.capture.raw.inspect_cli import formats_json, formats_table


@dataclass(frozen=True)
class DecodeWork:
    """Decode one capture and write its result folder; goes to other processes as it is."""

    options: DecodeOptions
    settings: OutputSettings

    def __call__(self, job: Job) -> dict[str, Any]:
        """The content of ``decode.json``. Raises DualpixError."""
        return write_capture(self.options.decode(job), job.files, job.folder, self.settings, job.request)


@click.command("decode")
@click.argument("files", nargs=-1, type=FILE)
@click.option("-o", "--output", type=FILE, help="Folder; each capture becomes a folder in it.  [required]")
@pair_options
@click.option("--sub", type=FILE, help="The second frame's own DNG, with one FILE.")
@decode_options
@output_options
@batch_options
@json_option("Results as JSON on stdout.")
@click.option("--list-formats", is_flag=True, help="Show the kinds of file that are decoded, and do nothing else.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of decode.json, and do nothing else.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    output: Path | None,
    left: Path | None,
    right: Path | None,
    sub: Path | None,
    jobs: int,
    resume: bool,
    cluster: str | None,
    as_json: bool,
    list_formats: bool,
    schema: bool,
    **given: Any,
) -> None:
    """Decode dual-pixel captures to left, right and combined views.

    FILES are Canon Dual Pixel RAW (CR2, CR3, DNG), Google PDCapture or Pixel 4 pairs, or any exported left / right
    pair, named by its left file; patterns of them ("*.CR3"), and folders, searched with their sub-folders. Each becomes
    OUTPUT/NAME/ with left.tiff, right.tiff, combined.tiff (16-bit, linear), saturated.png, preview.png and decode.json.

    --jobs and --cluster share the files out. One bad file does not stop the rest; the exit code is then 2. After a
    kill, --resume goes on with what is missing. On a cluster all workers must see the same paths.
    """
    if list_formats:
        _list_formats(as_json)
    if schema:
        echo_json(read_schema())
    if list_formats or schema:
        return
    if output is None:
        raise OutputError("no output folder was named", hint="give one with -o FOLDER")
    settings = OutputSettings.taken_from(given)
    work = DecodeWork(DecodeOptions(**given), settings)
    todo = jobs_of(files, left, right, output, sub=sub, dumps=work.options.dump is not None)
    todo = with_requests(todo, {**asdict(work.options), **asdict(settings)})
    # A single bad file fails as itself; with --debug the first one does, for its traceback.
    stop_at_once = bool((ctx.obj or {}).get("debug")) or (len(todo) == 1 and not as_json and cluster is None)
    if stop_at_once:
        work.options.check(todo[0])
    make_output_dir(output)
    batch = Batch(jobs, resume, cluster)
    outcomes = run_jobs("decoding", todo, work, sidecar=SIDECAR, batch=batch, stop_at_once=stop_at_once)
    if as_json:
        echo_json([o.to_json() for o in outcomes])
    else:
        Console().print(_table(outcomes, output))
    if any(o.error for o in outcomes):
        ctx.exit(2)


def _list_formats(as_json: bool) -> None:
    if as_json:
        echo_json(formats_json())
    else:
        Console().print(formats_table())


def _table(outcomes: list[Outcome], output: Path) -> Table:
    heads = ("decoder", "view", "axis", "clipped")
    table = figures_table(*heads, names=("file", "result"), title=escape(f"written to {output}"))
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            table.add_row(escape(outcome.job.path.name), "", "", "", "", "[red]failed[/red]")
            continue
        size = record["size"]
        folder = outcome.job.folder.relative_to(output)
        table.add_row(
            escape(outcome.job.path.name),
            record["decoder"],
            f"{size['width']}x{size['height']}x{size['channels']}",
            record["baseline"],
            f"{100 * record['saturated_fraction']:.2f}%",
            escape(f"{folder} (done before)" if outcome.status == "skipped" else str(folder)),
        )
    return table
