"""One self-contained HTML page from an export folder: what there is, how well it does, how fast, made how.

The page holds everything it shows (styles, plots and pictures as data URIs), loads nothing and runs no script, reads
on a phone, and follows the reader's light or dark setting.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_bytes
from dualpix.export.bench import EAGER
from dualpix.export.flow import PICTURES
from dualpix.export.manifest import verify_manifest

_TEMPLATES = Path(__file__).parent
_MAX_PICTURE_BYTES = 16 << 20
_INK = {"light": "#26323d", "dark": "#d7dee5"}
_COLOURS = {"light": ("#0b62a4", "#b4460a"), "dark": ("#6db3f2", "#ff9e5e")}
_BASELINE = "xnnpack-fp32"
_SIGNS = {True: "pass", False: "fail"}


@dataclass(frozen=True)
class Row:
    """One line of the artefact table, ready to print."""

    name: str
    file: str
    text: str
    status: str
    """"pass", "partial" (not run here), "fail" or "reference": chooses the colour."""
    outcome: str
    reason: str
    cells: tuple[tuple[str, str], ...]
    """(heading, value)."""
    checks: tuple[tuple[str, str, str, str], ...]
    """(name, measured, limit, pass or fail)."""


def write_report(folder: Path, output: Path) -> Path:
    """Write the page of the export in ``folder`` to ``output``, after hashing its artefacts again.

    Raises:
        ManifestError: ``folder`` is no export, or an artefact is not the file that was measured.
        DualpixError: ``pictures.json`` names something that cannot be shown.
        OutputError: ``output`` cannot be written.
    """
    manifest = verify_manifest(folder)
    page = _environment().get_template("report.html.j2").render(
        manifest=manifest,
        gate=manifest["gate"],
        rows=_rows(manifest),
        plots={theme: svg_uri(accuracy_plot(manifest["gate"], theme)) for theme in ("light", "dark")},
        pictures=pictures_of(folder),
        facts=_facts(manifest),
    )  # fmt: skip
    write_bytes(output, page.encode())
    return output


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "–" if value is None else format(value * scale, form)


def _time(gate: dict[str, Any], name: str) -> str:
    latency = gate["benchmark"]["latencies"].get(name)
    if latency is None:
        return "–"
    low, high = latency["quartiles_s"]
    return f"{latency['median_s'] * 1e3:.1f} ± {(high - low) * 500:.1f} ms"


def _rows(manifest: dict[str, Any]) -> list[Row]:
    gate = manifest["gate"]
    score = gate["float"]
    cells = (("Latency", _time(gate, EAGER)), ("AI(1)", _number(score["ai1"], ".4f")))
    reference = Row(
        "float network", "PyTorch, eager", "what every artefact is held against", "reference", "", "", cells, ()
    )
    return [reference, *(_row(manifest, entry) for entry in gate["recipes"])]


def _row(manifest: dict[str, Any], entry: dict[str, Any]) -> Row:
    accuracy, delegation, speedup = entry["accuracy"] or {}, entry["delegation"] or {}, entry["speedup"]
    cells = [
        ("Size", "–" if entry["size_bytes"] is None else f"{entry['size_bytes'] / 1e6:.2f} MB"),
        ("Latency", _time(manifest["gate"], entry["recipe"])),
        *((f"Speed over {other}", f"{speedup[other]:.2f} ×") for other in (EAGER, _BASELINE) if other in speedup),
        ("Delegated compute", _number(delegation.get("compute_share"), ".1f", 100) + (" %" if delegation else "")),
        ("AI(1)", _number(accuracy.get("ai1"), ".4f")),
        ("AI(1) change", _number(entry["ai1_increase"], "+z.2f", 100) + (" %" if accuracy else "")),
        ("SQNR", _number(accuracy.get("from_float", {}).get("sqnr_db"), ".1f") + (" dB" if accuracy else "")),
        ("Largest gap", _number(accuracy.get("from_float", {}).get("max_abs_px"), ".3g") + (" px" if accuracy else "")),
    ]
    checks = tuple(
        (
            c["name"].replace("_", " "),
            _number(c["measured"], ".4g"),
            f"{c['relation']} {c['limit']:.4g}",
            _SIGNS[c["passed"]],
        )
        for c in entry["checks"]
    )
    status = "fail" if not entry["passed"] else "pass" if accuracy else "partial"
    text = str(manifest["recipes"].get(entry["recipe"], ""))
    shown = tuple((name, value) for name, value in cells if value != "–")
    return Row(entry["recipe"], entry["file"] or "", text, status, entry["outcome"], entry["reason"], shown, checks)


def _facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The manifest's excerpt, as pairs."""
    bench, output = manifest["gate"]["benchmark"], manifest["output"]
    tensors = ", ".join(f"{t['name']} {'×'.join(map(str, t['shape']))}" for t in manifest["input"]["tensors"])
    return [
        ("Model", f"{manifest['model']['name']} ({manifest['model']['paper']})"),
        ("Weights", f"sha256 {manifest['model']['weights_sha256']}"),
        ("Inputs", f"{tensors}; {manifest['input']['layout']}"),
        ("Normalisation", manifest["input"]["normalisation"]),
        ("Output", f"{output['name']} in {output['unit']}, {output['sign']}"),
        ("Calibration", f"{manifest['calibration']['description']}; sha256 {manifest['calibration']['sha256'][:16]}…"),
        ("Evaluation", f"{manifest['evaluation']['description']}; sha256 {manifest['evaluation']['sha256'][:16]}…"),
        (
            "Timing",
            f"{bench['rounds']} interleaved rounds, {bench['threads']} thread(s); median ± half the IQR",
        ),
        ("Machine", f"{manifest['machine']['processor']}, {manifest['machine']['system']}"),
        ("Versions", ", ".join(f"{name} {v}" for name, v in manifest["versions"].items())),
        ("Commit", manifest["commit"] or "installed package"),
        ("Limits", manifest["gate"]["limits"]),
    ]


def accuracy_plot(gate: dict[str, Any], theme: str) -> Figure:
    """AI(1) error against median latency, quartiles as bars; the corner at the lower left is where one wants to be."""
    ink, (reference_colour, artefact_colour) = _INK[theme], _COLOURS[theme]
    scores = {EAGER: gate["float"]["ai1"]} | {
        e["recipe"]: e["accuracy"]["ai1"] for e in gate["recipes"] if e["accuracy"] and e["accuracy"]["ai1"] is not None
    }
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, ai1 in scores.items():
        latency = gate["benchmark"]["latencies"][name]
        median, (low, high) = latency["median_s"] * 1e3, (q * 1e3 for q in latency["quartiles_s"])
        colour = reference_colour if name == EAGER else artefact_colour
        axes.errorbar(median, ai1, xerr=[[median - low], [high - median]], fmt="o", ms=8, color=colour, capsize=3)
        axes.annotate(name, (median, ai1), (0, 9), textcoords="offset points", ha="center", color=ink, fontsize=10)
    axes.axhspan(gate["float"]["ai1"], gate["float"]["ai1"] * 1.03, color=reference_colour, alpha=0.12, lw=0)
    middle = 1.015 * gate["float"]["ai1"]
    reach = max([0.06 * middle, *(abs(v - middle) * 1.4 for v in scores.values())])
    axes.set(xlabel="latency, ms (median, quartiles)", ylabel="AI(1) error", ylim=(middle - reach, middle + reach))
    axes.set_xlim(0, 1.2 * max(gate["benchmark"]["latencies"][name]["quartiles_s"][1] for name in scores) * 1e3)
    axes.tick_params(colors=ink)
    for item in (axes.xaxis.label, axes.yaxis.label):
        item.set_color(ink)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=ink)
    axes.grid(color=ink, alpha=0.15)
    return figure


def svg_uri(figure: Figure) -> Markup:
    """A figure as an SVG data URI, transparent so that it fits any background."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _uri("image/svg+xml", out.getvalue())


def pictures_of(folder: Path) -> list[tuple[Markup, str]]:
    """(data URI, caption) of each picture that ``pictures.json`` in ``folder`` lists.

    Raises:
        DualpixError: an entry that is no PNG inside the folder, or too large.
    """
    listing = folder / PICTURES
    if not listing.is_file():
        return []
    try:
        entries = [(str(e["file"]), str(e["caption"])) for e in json.loads(listing.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise DualpixError(f"'{listing}' cannot be read", expected='[{"file": ..., "caption": ...}, ...]') from error
    return [(_picture(folder, name), caption) for name, caption in entries]


def _picture(folder: Path, name: str) -> Markup:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.suffix != ".png" or not path.is_file():
        raise DualpixError(f"'{PICTURES}' names '{name}'", expected="a PNG file inside the folder")
    if path.stat().st_size > _MAX_PICTURE_BYTES:
        raise DualpixError(f"'{name}' has {path.stat().st_size} bytes", expected=f"at most {_MAX_PICTURE_BYTES}")
    return _uri("image/png", path.read_bytes())


def _uri(kind: str, data: bytes) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")  # noqa: S704 - base64 of our own bytes
