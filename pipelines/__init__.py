"""The engine: models, samplers and runs. Importing it imports no torch; it never imports gradio.

`open` gives a worker; everything else is reached through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.worker import Worker

VERSION = "0.1"


def open(
    data: str | Path = "data",
    *,
    models: Iterable[str | Path] = (),
    device: str = "auto",
    dtype: str = "auto",
    process: bool = False,
) -> Worker:
    """A worker over `data` (outputs are kept there) and the models folders; a context manager.

    device: auto, cpu, cuda, cuda:N, mps. dtype: auto, float32, float16, bfloat16. With `process` the
    engine lives in a process of its own, as the page wants it; without, on a thread of this one.
    Returns at once: torch is imported meanwhile, and what goes wrong there is told in `worker.state`.
    """
    from pipelines.engine import EngineSettings, LocalEngine
    from pipelines.engine_process import EngineProcess
    from pipelines.pictures import PictureStore
    from pipelines.worker import Worker

    settings = EngineSettings(Path(data).resolve(), tuple(Path(m).resolve() for m in models), device, dtype)
    engine = EngineProcess(settings) if process else LocalEngine(settings)
    return Worker(engine, settings.library(), PictureStore(settings.data / "inputs"))
