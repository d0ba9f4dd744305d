"""Numbers of PTP as Canon's EOS cameras use them: those of libgphoto2's ptp2 driver."""

from __future__ import annotations

import struct

NOT_READY = 0xA102
JPEG, CR3, BATTERY, FRIENDLY_NAME = 0x3801, 0xB108, 0x5001, 0xD402
STORE = 0x00010001
CARD, HOST = 2, 4
SCREEN_AND_HOST = 3
FAR = 0x8000
HOST_ROOM = 9999
APERTURE, SHUTTER, ISO, EXPOSURE_MODE, DRIVE_MODE, FOCUS_MODE = 0xD101, 0xD102, 0xD103, 0xD105, 0xD106, 0xD108
BATTERY_LEVEL, MODEL_ID, SHOTS_LEFT, DESTINATION, QUALITY = 0xD111, 0xD116, 0xD11B, 0xD11C, 0xD120
QUALITY_CARD, LENS_STATUS, SERIAL, OUTPUT = 0xD122, 0xD1A8, 0xD1AF, 0xD1B0
CONTINUOUS_AF, LENS_NAME = 0xD1C9, 0xD1D8
AUTO_POWER_OFF, OWNER, ARTIST = 0xD114, 0xD115, 0xD1D0
OPERATIONS = (
    *range(0x1001, 0x100C), 0x1014, 0x1015, 0x101B, *range(0x9101, 0x9105), *range(0x9107, 0x910A), 0x9110,
    *range(0x9114, 0x9118), *range(0x911A, 0x911E), *range(0x9127, 0x912A), 0x913D, *range(0x9151, 0x9156), 0x9158,
    0x9160,
)  # fmt: skip
F_CODES = {1.8: 0x15, 2.0: 0x18, 2.8: 0x20, 4.0: 0x28, 5.6: 0x30, 8.0: 0x38, 11.0: 0x40, 16.0: 0x48}
SLOW_S = {0x18: 15.0, 0x20: 8.0, 0x28: 4.0, 0x30: 2.0, 0x38: 1.0, 0x40: 0.5}
FAST = {
    0x48: 4, 0x4B: 5, 0x4D: 6, 0x50: 8, 0x53: 10, 0x55: 13, 0x58: 15, 0x5B: 20, 0x5D: 25, 0x60: 30, 0x63: 40, 0x65: 50,
    0x68: 60, 0x6B: 80, 0x6D: 100, 0x70: 125, 0x73: 160, 0x75: 200, 0x78: 250, 0x7B: 320, 0x7D: 400, 0x80: 500,
    0x83: 640, 0x85: 800, 0x88: 1000, 0x8B: 1250, 0x8D: 1600, 0x90: 2000, 0x93: 2500, 0x95: 3200, 0x98: 4000,
}  # fmt: skip
SECONDS = {**SLOW_S, **{code: 1 / fraction for code, fraction in FAST.items()}}
ISOS = {0x48: 100.0, 0x50: 200.0, 0x58: 400.0, 0x60: 800.0, 0x68: 1600.0, 0x70: 3200.0, 0x78: 6400.0, 0x80: 12800.0}
MANUAL_EXPOSURE, MANUAL_FOCUS, ONE_SHOT = 3, 3, 0
RAW, LARGE = (6, 0, 4), (1, 0, 3)


def _quality(*files: tuple[int, int, int]) -> bytes:
    """An image format: count, then per file size, type, picture size, compression."""
    return struct.pack("<I", len(files)) + b"".join(struct.pack("<4I", 16, *file) for file in files)


QUALITIES = {"RAW": _quality(RAW), "L": _quality(LARGE), "RAW + L": _quality(RAW, LARGE)}
