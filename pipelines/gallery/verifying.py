"""Verify: paints a picture again and says whether it came out the same, and if not from which step on.

The run is an ordinary job, and the pixels are compared, not the files: text in a file may tell more by now.
What came of it is kept with the picture's other marks, and so is that it is being painted: after a restart
the job goes on, and its picture is compared then.
"""

from __future__ import annotations

import collections
import datetime
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.events import Failed, Finished
from pipelines.film.trajectory import RunInfo, run_id
from pipelines.gallery.asked import CannotVerify, request_of
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.lineage import Lineage
from pipelines.gallery.marks import Verdict
from pipelines.gallery.places import Row
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import read_original
from pipelines.request import InvalidRequest
from pipelines.worker import UnknownJob, Worker

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest

KEPT = 200
"""So many verdicts are remembered by their jobs, for the pages that wait for them."""

RUNNING = Verdict("running", "The picture is being painted again.")
FORGOTTEN = Verdict(
    "cannot", "This verification is not known any more: it ended long ago, or its picture is gone."
)


class Verifier:
    """Paints a gallery's pictures again. told: called, on any thread, when there is a verdict."""

    def __init__(self, gallery: Gallery, worker: Worker, told: Callable[[], None] = lambda: None):
        self.gallery, self.worker, self._told = gallery, worker, told
        self._verdicts: collections.OrderedDict[str, Verdict] = collections.OrderedDict()
        self._lock = threading.Lock()

    def start(self, row: Row, client: str = "") -> str:
        """Queues the run that paints a picture again and returns its job's id. Raises `CannotVerify`."""
        run = self._run(row)
        request = request_of(row, run, self.gallery, self.worker.journal, self.worker.library)
        try:
            job = self.worker.submit(request, client)
        except InvalidRequest as problem:
            raise CannotVerify(str(problem)) from None
        self._begin(job, row, run, request)
        return job

    def go_on(self) -> None:
        """Takes up what was being painted again when the program ended. The gallery must know its files."""
        for id, mark in self.gallery.marks.all().items():
            if mark.verdict is None or mark.verdict.state != "running":
                continue
            row, job = self.gallery.index.row(id), mark.verdict.job
            try:
                if row is not None:
                    self._begin(job, row, self._run(row), self.worker.job(job).request)
            except UnknownJob:
                self._keep(id, None)

    def _run(self, row: Row) -> RunInfo | None:
        return Lineage(self.gallery.data, self.gallery.index, self.gallery.trajectories).run(row)

    def _begin(self, job: str, row: Row, run: RunInfo | None, request: GenerationRequest) -> None:
        self._settle(job, row, RUNNING)
        arguments = (job, row, run, request)
        threading.Thread(target=self._follow, args=arguments, name="verify", daemon=True).start()

    def verdict(self, job: str) -> Verdict:
        with self._lock:
            return self._verdicts.get(job, FORGOTTEN)

    def _settle(self, job: str, row: Row, verdict: Verdict) -> None:
        """Tells a verdict, and keeps it with the picture: one without a result is nothing to be kept."""
        now = datetime.datetime.now().isoformat(timespec="seconds")
        verdict = replace(verdict, job=job, when=now)
        if hindered := self._keep(row.id, None if verdict.state == "cannot" else verdict):
            verdict = replace(verdict, sentence=f"{verdict.sentence} {hindered}")
        with self._lock:
            self._verdicts[job] = verdict
            while len(self._verdicts) > KEPT:
                self._verdicts.popitem(last=False)
        self._told()

    def _keep(self, id: str, verdict: Verdict | None) -> str:
        """Keeps a verdict; what stands in the way as a sentence, else ""."""
        try:
            self.gallery.judge(id, verdict)
        except OSError as problem:
            return f"It could not be kept beside the pictures: {problem.strerror or problem}."
        return ""

    def _follow(self, job: str, row: Row, run: RunInfo | None, request: GenerationRequest) -> None:
        ending = collections.deque(self.worker.follow(job), maxlen=1).pop()
        if self.worker.closed:
            return  # the next program goes on with the job
        try:
            if isinstance(ending, Finished) and not ending.stopped:
                verdict = self._compared(job, row, run, request, Path(ending.pictures[0].path))
            elif isinstance(ending, Failed):
                verdict = Verdict("cannot", f"The picture could not be painted again: {ending.message}")
            else:
                verdict = Verdict("cannot", "The run was stopped before the picture was painted again.")
        except (UnreadablePicture, OSError) as problem:
            verdict = Verdict("cannot", f"The pictures could not be compared: {problem}")
        self._settle(job, row, verdict)

    def _compared(
        self, job: str, row: Row, run: RunInfo | None, request: GenerationRequest, again: Path
    ) -> Verdict:
        import numpy as np

        place = self.gallery.file(row.id)
        if place is None or place == again:
            return Verdict("cannot", "The picture was moved away or deleted while it was painted again.")
        old, new = (read_original(path.read_bytes()).pixels for path in (place, again))
        if old.shape == new.shape and old.dtype == new.dtype and np.array_equal(old, new):
            self._discard(job, again)
            return Verdict("identical", f"Identical: every pixel is the same.{_taken(request)}")
        common, step = self._parts_at(run, job)
        if run is not None and run.state == "stopped" and step is None:
            self._discard(job, again)
            if not common:
                return Verdict("cannot", "The picture was stopped by hand, and its steps cannot be compared.")
            told = f"Identical as far as it came: the {common} steps before it was stopped by hand."
            return Verdict("identical", told)
        where = f" from step {step} on" if step else ""
        if old.shape != new.shape:
            much = f"it is {new.shape[1]} x {new.shape[0]} pixels now"
        else:
            share = float(np.mean(np.any(old != new, axis=2)))
            much = f"{share:.1%} of the pixels changed" if share >= 0.001 else "a few pixels changed"
        return Verdict("differs", f"It differs{where}: {much}. The new picture is kept beside it.", step)

    def _parts_at(self, run: RunInfo | None, job: str) -> tuple[int, int | None]:
        """(how many steps can be compared, the first that differs, counted from 1, or None)."""
        if run is None or not self.gallery.trajectories.exists(run_id(job, 0)):
            return 0, None
        try:
            found = self.worker.engine.call("compare", run.id, run_id(job, 0))
        except (LookupError, TimeoutError):  # a film is gone, or the engine busy: the pictures alone count
            return 0, None
        if found is None:
            return 0, None
        return found["common"], None if found["parts"] is None else found["parts"] + 1

    def _discard(self, job: str, picture: Path) -> None:
        """Takes away the second of two equal pictures, and its film."""
        picture.unlink(missing_ok=True)
        self.gallery.trajectories.delete(run_id(job, 0))


def _taken(request: GenerationRequest) -> str:
    if request.branch is None or not request.branch.step:
        return ""
    steps = request.branch.step
    return f" Its first {steps} steps were taken from the run that it branched off."
