"""The pictures of README and docs, from the simulated camera and formulas alone: ``python -m docs.make_images``.

Run it again when the shipped weights change; a picture is what the commands give, nothing is chosen by hand but the
scene.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from benchmarks.record import read_result
from docs.frontier_picture import draw
from docs.glossary_pictures import PICTURES
from docs.make_zoo_table import RESULT

from dualpix.capture.cameras import SimulatedCamera, SimulatedSensor
from dualpix.capture.pictures.colour_map import Panel, Rgb, default_limits, figure, save_picture
from dualpix.capture.pictures.display import to_display
from dualpix.capture.raw import decode_capture
from dualpix.models.metrics import mean_absolute_error
from dualpix.models.predict.disparity import match_disparity, predict_disparity
from dualpix.models.zoo import DEFAULT_MODEL, load_model

IMAGES = Path(__file__).parent / "images"
SEED = 11
_SENSOR_HW = (576, 768)
_PANEL_PX = 240


def overview(seed: int, model: str) -> Rgb:
    """Full-aperture view, true disparity, and what the network and semi-global matching make of the two halves."""
    with tempfile.TemporaryDirectory() as scratch:
        camera = SimulatedCamera(sensor=SimulatedSensor(size_hw=_SENSOR_HW))
        shot = camera.shoot(Path(scratch) / "capture.dng", seed)
        capture = decode_capture(shot.path)
    truth, limits = shot.disparity_px, default_limits(shot.disparity_px, None, "diverging")
    maps = {
        "network": predict_disparity(capture.image, load_model(model)).disparity_px,
        "SGBM": match_disparity(capture.image).disparity_px,
    }
    picture = to_display(capture.image.combined, white_balance=capture.details["white_balance"])
    panels = [
        Panel("decoded, full aperture", picture),
        Panel("truth (blue: behind focus)", truth, "diverging", "px", limits=limits),
    ]
    for name, disparity in maps.items():
        title = f"{name}: mean error {mean_absolute_error(disparity, truth):.2f} px"
        panels.append(Panel(title, disparity, "diverging", "px", limits=limits))
    return figure(panels, columns=2, panel_px=_PANEL_PX)


@click.command()
@click.option("--seed", default=SEED, help="Scene in front of the simulated camera.")
@click.option("--model", default=DEFAULT_MODEL, help="Name or folder of the network.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=IMAGES, help="Folder of the pictures.")
def main(seed: int, model: str, output: Path) -> None:
    """Make the pictures."""
    output.mkdir(parents=True, exist_ok=True)
    save_picture(output / "overview.png", overview(seed, model))
    for name, drawing in PICTURES.items():
        save_picture(output / f"{name}.png", drawing())
    save_picture(output / "frontier.png", draw(read_result(RESULT)))


if __name__ == "__main__":
    main()
