"""Options of networks that there are none without."""

from __future__ import annotations

from typing import Any

NEEDED: dict[str, dict[str, Any]] = {
    "ensemble": {"members": [{"network": name, "options": {}} for name in ("dplive", "fmdp")]}
}
