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
    films: bool = True,
    film_bytes: int | None = None,
    safety_checker: str | None = None,
    most_waiting: int | None = None,
) -> Worker:
    """A worker over `data` (outputs are kept there) and the models folders; a context manager.

    It goes on with the jobs that the last one over `data` left. Raises `DataInUse` where that one is still
    open, and `JournalUnusable` where nothing can be written there.

    device: auto, cpu, cuda, cuda:N, mps. dtype: auto, float32, float16, bfloat16. With `process` the
    engine lives in a process of its own, as the page wants it; without, on a thread of this one.
    films: whether runs stay recorded after their end; film_bytes: what they may take on disk.
    safety_checker: "on" or the folder of one, which then looks at every finished picture (pipelines.safety);
    raises `NoChecker` where there is none. No run stays recorded then.
    most_waiting: how many jobs one client may have waiting.
    Returns at once: torch is imported meanwhile, and what goes wrong there is told in `worker.state`.
    """
    from pipelines import journal_file, safety
    from pipelines.engine import FILM_BYTES, EngineSettings, LocalEngine
    from pipelines.engine_process import EngineProcess
    from pipelines.pictures import PictureStore
    from pipelines.queueing import MOST
    from pipelines.worker import Worker

    folders = tuple(Path(m).resolve() for m in models)
    room = FILM_BYTES if film_bytes is None else film_bytes
    checker = safety.find(safety_checker, folders) if safety_checker else None
    settings = EngineSettings(Path(data).resolve(), folders, device, dtype, room, checker)
    lock = journal_file.hold(settings.data)
    try:
        engine = EngineProcess(settings) if process else LocalEngine(settings)
        store = PictureStore(settings.data / "inputs")
        return Worker(
            engine,
            settings.library(),
            store,
            lock=lock,
            films=films and checker is None,
            most_waiting=MOST if most_waiting is None else most_waiting,
        )
    except BaseException:
        lock.release()
        raise
