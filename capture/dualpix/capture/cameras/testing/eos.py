"""A test camera that speaks PTP/IP as a Canon EOS does, well enough for the real libgphoto2 to drive it as one.

    python -m dualpix.capture.cameras.testing.eos --port 0 --seed 3 --faults faults.json --state state.jsonl
    {"port": 40123, "pid": 4711}
    gphoto2 --port ptpip:127.0.0.1:40123:40123 --summary

It must be a process of its own: libgphoto2's exit() holds Python's lock while it waits for the camera. The port stands
twice in libgphoto2's address, for commands and for events.

What it does is in :mod:`.eos_camera`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dualpix.capture.cameras.testing import eos_codes as ptp
from dualpix.capture.cameras.testing.eos_camera import EosCamera, Setup
from dualpix.capture.cameras.testing.process import announce, options_from, parser_for, wait_for_end
from dualpix.capture.cameras.testing.ptpip import PtpIpServer
from dualpix.capture.errors import DualpixError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends."""
    parser = parser_for("a test camera that speaks PTP/IP like a Canon EOS")
    parser.add_argument("--quality", choices=sorted(ptp.QUALITIES), default="RAW")
    parser.add_argument("--battery", type=int, default=80, help="percent")
    parser.add_argument("--exposure-mode", choices=("M", "Av"), default="M")
    parser.add_argument("--focus-mode", choices=("MF", "AF"), default="MF")
    parser.add_argument("--bracket", type=int, default=1, help="frames of a release, focused ever nearer")
    parser.add_argument("--bracket-step", type=int, default=1, choices=(1, 2, 3))
    parsed = parser.parse_args(arguments)
    try:
        options = options_from(parsed)
    except DualpixError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    setup = Setup(
        battery_percent=parsed.battery,
        exposure_mode=ptp.MANUAL_EXPOSURE if parsed.exposure_mode == "M" else 2,
        focus_mode=ptp.MANUAL_FOCUS if parsed.focus_mode == "MF" else ptp.ONE_SHOT,
        quality=parsed.quality, bracket=parsed.bracket, bracket_step=parsed.bracket_step,
    )  # fmt: skip
    server = PtpIpServer(EosCamera(options.camera(), options.faults, setup), options.port)
    announce(server.port)
    wait_for_end(options.faults)
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
