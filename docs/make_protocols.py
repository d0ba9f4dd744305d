"""The table of protocols in docs/evaluate.md, from the protocols themselves: ``python -m docs.make_protocols``."""

from __future__ import annotations

from pathlib import Path

from dualpix.models.evaluate import PROTOCOLS

PAGE = Path(__file__).with_name("evaluate.md")
BEGIN, END = "<!-- protocols: begin, made by docs/make_protocols.py -->", "<!-- protocols: end -->"


def protocols_markdown() -> str:
    """A row for each protocol."""
    rows = ["| `--data` | what | truth | pixels scored | data, licence | checked on |", "|---|---|---|---|---|---|"]
    for protocol in PROTOCOLS.values():
        leak = f" **Leaks the scale:** {protocol.leaks_scale}." if protocol.leaks_scale else ""
        pixels = f"crop: {protocol.crop}; mask: {protocol.mask}"
        cells = (f"`{protocol.name}`", protocol.title + "." + leak, f"`{protocol.unit}`", pixels)
        rows.append(f"| {' | '.join((*cells, protocol.data, protocol.checked_on))} |".replace("|ρ|", "abs(ρ)"))
    return "\n".join(rows)


def with_protocols(page: str) -> str:
    """The page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{protocols_markdown()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_protocols(PAGE.read_text()))
