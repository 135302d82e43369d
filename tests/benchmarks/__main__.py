"""Runs the benchmarks named on the command line, or all, and prints a table (or --json FILE)."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.benchmarks import (
    controls,
    explore,
    film,
    forecast,
    gallery,
    gpu,
    loras,
    models,
    painter,
    runs,
    server,
)
from tests.benchmarks.figure import Figure

BENCHMARKS = {
    "overhead": runs.overhead,
    "preview": runs.preview_cost,
    "first-preview": runs.first_preview,
    "startup": server.startup,
    "idle": server.idle,
    "painter": painter.painting,
    "explore": explore.scrubbing,
    "film": film.recording,
    "film-sd": film.recording_sd,
    "models": models.models,
    "models-xl": models.models_xl,
    "gpu": gpu.gpu,
    "gpu-xl": gpu.gpu_xl,
    "led-run": controls.led_run,
    "maps": controls.maps,
    "loras": loras.switching,
    "forecast": forecast.forecasts,
    "gallery": gallery.gallery,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], help="which ones; all without")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures: list[Figure] = []
    for name in options.names or BENCHMARKS:
        with tempfile.TemporaryDirectory() as data:
            for figure in BENCHMARKS[name](Path(data)):
                print(figure.line(), flush=True)
                figures.append(figure)
    if options.json:
        options.json.write_text(json.dumps([vars(figure) for figure in figures], indent=1))


if __name__ == "__main__":
    main()
