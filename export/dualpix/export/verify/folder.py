"""Is an export folder still what was measured, and does it still do what it did?

Three questions, in this order: does the manifest have its own digest, does every file have the one that the manifest
names (and is there none beside), and does each artefact that can run here, loaded afresh, repeat the output that was
stored with it. This is integrity, not authenticity: it finds damage and mistakes, not a forger, who would write a new
manifest too.

Convention: agreement is a signal-to-noise ratio in dB between the stored and the new output; the manifest names the
lowest one allowed, because another processor rounds another way.

torch is imported once the files are known to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualpix.export.manifest import MANIFEST, Declared, ManifestError, check_entry, read_manifest
from dualpix.export.recipes import find_recipe

OnStep = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ArtefactCheck:
    """One artefact: its digest was right; ``sqnr_db`` is ``None`` where it was not run again."""

    recipe: str
    file: str
    sqnr_db: float | None
    limit_db: float | None
    note: str = ""
    """Why it was not run, or that it was interpreted."""


@dataclass(frozen=True)
class Verification:
    """What was found right; anything wrong is a :class:`ManifestError`."""

    folder: Path
    files: int
    """Hashed, artefacts among them."""
    artefacts: tuple[ArtefactCheck, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "folder": str(self.folder), "artefacts": [asdict(a) for a in self.artefacts]}


def verify(
    folder: Path,
    *,
    run: bool = True,
    allow_extra: bool = False,
    threads: int = 1,
    on_step: OnStep = lambda done, total, text: None,
) -> Verification:
    """Check the export in ``folder``.

    Args:
        folder: written by ``dualpix export``.
        run: also load each artefact and run it on the stored input.
        allow_extra: leave files alone that the manifest does not name; hidden ones always are.
        threads: of the runtime.
        on_step: told (done, total, text).

    Raises:
        ManifestError: the manifest or a file was changed, is missing, lies outside, or is one too many; or an artefact
            does not load, does not run, or gives something else than it gave.
    """
    manifest = read_manifest(folder)
    entries = [*manifest["artefacts"], *manifest.get("files", ())]
    steps = len(entries) + (len(manifest["artefacts"]) if run else 0)
    for index, entry in enumerate(entries):
        on_step(index + 1, steps, f"hashing {entry['file']}")
        check_entry(folder, entry)
    if not allow_extra:
        _check_nothing_else(folder, {str(entry["file"]) for entry in entries})
    declared, checks = Declared.of(manifest), []
    for index, entry in enumerate(manifest["artefacts"]):
        if run:
            on_step(len(entries) + index + 1, steps, f"running {entry['file']}")
        checks.append(_checked(folder, declared, entry, run=run, threads=threads))
    return Verification(folder, len(entries), tuple(checks))


def _check_nothing_else(folder: Path, named: set[str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.name not in named | {MANIFEST} and not path.name.startswith("."):
            raise ManifestError(
                f"'{path.name}' in '{folder}' is not in the manifest",
                expected="nothing but the export",
                hint="move it away, or give --allow-extra",
            )


def _checked(folder: Path, declared: Declared, entry: Mapping[str, Any], *, run: bool, threads: int) -> ArtefactCheck:
    recipe, file = find_recipe(str(entry.get("recipe"))), str(entry["file"])
    limit = declared.limits_db.get(recipe.name)
    if not run:
        return ArtefactCheck(recipe.name, file, None, limit, "not asked for")
    if limit is None:
        return ArtefactCheck(recipe.name, file, None, None, "was not run where it was made")
    from dualpix.export.verify.rerun import agreement_of

    agreement_db, reason = agreement_of(folder, declared, recipe, file, threads), recipe.can_run()
    if agreement_db is None:
        return ArtefactCheck(recipe.name, file, None, limit, reason or "does not run here")
    return ArtefactCheck(recipe.name, file, agreement_db, limit, "interpreted" if reason else "")
