"""What `tools/` has for killing runs, for tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from kills import killed, moments

__all__ = ["killed", "moments"]
