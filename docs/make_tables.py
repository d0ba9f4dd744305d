"""The figures in README.md and in docs/depth.md, train.md, export.md, networks.md, networks/fossa.md and dplive.md,
from ``docs/results``.

Nobody types a figure. ``python -m docs.record_results`` and ``python -m benchmarks.stacks`` make the files,
``python -m docs.make_tables`` puts them between the two markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Figure, Result, read_result

from dualpix.export.manifest import machine_text

ROOT = Path(__file__).parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results"
PAGES = {
    README: RESULTS,
    ROOT / "docs" / "depth.md": RESULTS / "depth",
    ROOT / "docs" / "train.md": RESULTS / "train",
    ROOT / "docs" / "export.md": RESULTS / "export",
    ROOT / "docs" / "networks.md": RESULTS / "zoo",
    ROOT / "docs" / "networks" / "fossa.md": RESULTS / "stacks",
    ROOT / "docs" / "networks" / "dplive.md": RESULTS / "live",
}
"""Each page with results, and the folder of its result files."""
BEGIN, END = "<!-- results: begin, made by docs/make_tables.py -->", "<!-- results: end -->"
NOTHING = "No results are recorded for this version yet."
_SHORT_COMMIT = 10


def results_markdown(results: Sequence[Result]) -> str:
    """All tables as Markdown."""
    return "\n\n".join(map(table, results)) if results else NOTHING


def table(result: Result) -> str:
    """One result: a title, a row for each thing measured, and where it comes from."""
    heads = [f"{name} ({unit})" if unit else name for name, unit in result.columns.items()]
    lines = [f"**{result.title}**", "", "| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for row in result.rows:
        cells = [_cell(row.figures[name]) if name in row.figures else "" for name in result.columns]
        lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _origin(result)])


def with_results(readme: str, results: Sequence[Result]) -> str:
    """The text of a page with the region between the markers replaced.

    Raises:
        ValueError: a marker is missing.
    """
    before, found_begin, rest = readme.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found_begin and found_end):
        raise ValueError(f"the page lacks '{BEGIN}' or '{END}'")
    return f"{before}{BEGIN}\n\n{results_markdown(results)}\n\n{END}{after}"


def recorded(folder: Path = RESULTS) -> list[Result]:
    """The committed results of a page by file name."""
    return [read_result(path) for path in sorted(folder.glob("*.json"))]


def _cell(figure: Figure) -> str:
    value = f"{figure.value:.4g}"
    return value if figure.iqr is None else f"{value} ({figure.iqr:.2g})"


def _origin(result: Result) -> str:
    figures = [f for row in result.rows for f in row.figures.values() if f.statistic != "exact"]
    kinds = " and ".join(sorted({f"{f.statistic} (interquartile range) of {f.n}" for f in figures}))
    commit, dirty, _ = result.commit.partition("-")
    parts = [
        kinds,
        f"commit {commit[:_SHORT_COMMIT]}{dirty and ' with changes'}",
        machine_text(result.machine),
        f"dualpix {result.versions.get('dualpix', '?')}, torch {result.versions.get('torch', '?')}",
        f"`{result.command}`",
    ]
    notes = f" {result.notes}" if result.notes else ""
    return f"<sub>{'; '.join(p for p in parts if p)}.{notes}</sub>"


if __name__ == "__main__":
    for page, folder in PAGES.items():
        page.write_text(with_results(page.read_text(), recorded(folder)))
