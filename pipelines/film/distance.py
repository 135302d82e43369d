"""How far a finished picture is from another: PSNR, in decibels. Importing this imports no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def distance(reference: Path, picture: Path) -> dict[str, Any]:
    """{"psnr": dB, "same": bit for bit} of two files; psnr None where they are the same, cannot be read, or
    are of different sizes."""
    import numpy as np
    from PIL import Image

    try:
        one, other = (
            np.asarray(Image.open(path).convert("RGB"), np.float64) for path in (reference, picture)
        )
    except (OSError, ValueError):
        return {"psnr": None, "same": False}
    if one.shape != other.shape:
        return {"psnr": None, "same": False}
    error = float(np.mean((one - other) ** 2))
    return {"psnr": 10 * math.log10(255**2 / error) if error else None, "same": error == 0}
