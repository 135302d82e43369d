"""The films of one engine: begun with a run, led by the run that it branched off, and shown afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import checks
from pipelines.families import FAMILIES
from pipelines.film import attention, branching, compare, develop, forward, looking, resuming
from pipelines.film.forward import Noising, Schedules
from pipelines.film.perceptual import Perceptual
from pipelines.film.recording import Recording, take_over
from pipelines.film.trajectory import RunInfo, State, TrajectoryStore, UnknownTrajectory, new_run
from pipelines.latents import scale_of
from pipelines.pictures import key_of
from pipelines.preview import LatentToRGB, encoded
from pipelines.request import GenerationRequest
from pipelines.resizing import resized
from pipelines.run import GenerationCancelled, GenerationPaused

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from pipelines.film.replay import Replay
    from pipelines.library.models import ModelLibrary
    from pipelines.load.loaded import LoadedModel
    from pipelines.request import Branch
    from pipelines.run import Control, PictureRun


class Films:
    """Between the store of recorded runs and what paints them. look: see PipelineManager.look. picture: gives
    a stored picture, RGB, by its key."""

    def __init__(
        self,
        store: TrajectoryStore,
        library: ModelLibrary,
        look: looking.Looking,
        picture: Callable[[str], Image],
        load: Callable[[GenerationRequest], LoadedModel],
    ):
        self.store, self._library, self._look, self._picture = store, library, look, picture
        self._load = load
        self._lines: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self._perceptual: dict[tuple[Path, Path], Perceptual] = {}

    # While it runs

    def replay(self, request: GenerationRequest, model: LoadedModel, id: str = "") -> Replay | None:
        """What the run `id` takes of its own that it took before, or else of the run that it branches off;
        None where there is neither. Raises `InvalidRequest`."""
        before = resuming.own(self.store, id, request) if id else None
        if before is not None:
            return before
        branch, start = request.branch, None
        if branch is not None and branch.painted:
            start = self._start(branch, request, model)
        return branching.replay_of(request, self.store, start)

    def _start(self, branch: Branch, request: GenerationRequest, model: LoadedModel) -> Tensor:
        """What the branch begins with: what was painted, at its step's noise level."""
        import numpy as np

        def pixels(key: str) -> np.ndarray:
            return np.asarray(self._picture(key).resize((request.width, request.height)))

        assert branch.painted is not None
        painted, where = pixels(branch.painted), None
        x0 = _latents_of(painted, model)
        if branch.painted_on is not None:
            where = branching.where_painted(painted, pixels(branch.painted_on), x0)
        return branching.renoised(self.store, branch.trajectory, branch.step, x0, where)

    @contextmanager
    def filming(
        self, job: str, run: PictureRun, model: LoadedModel, steering: Control
    ) -> Iterator[Recording | None]:
        """Records `run` inside; nothing without a job, which is what a film is called by."""
        if not job:
            yield None
            return
        run.film = film = self._begin(job, run, model)
        state: State = "failed"
        try:
            yield film
            state = "stopped" if steering.kept else "finished"
        except GenerationCancelled:
            state = "stopped"
            raise
        except GenerationPaused:
            state = "paused"
            raise
        finally:
            film.close(state)

    def _begin(self, job: str, run: PictureRun, model: LoadedModel) -> Recording:
        request, branch = run.request, run.request.branch
        before = run.replay if run.replay is not None and run.replay.own else None
        if before is not None:
            known = replace(self.store.get(before.id), state="running", note="")
            return Recording(self.store, known, before.count)
        told = new_run(
            job,
            run.index,
            request=request.model_dump(mode="json", exclude_defaults=True),
            task=request.task,
            model=request.model,
            model_title=model.spec.title,
            parent=branch.trajectory if branch else None,
            parent_step=branch.step if branch else 0,
            about={
                "to_rgb": model.to_rgb.as_lists(),
                "layout": run.family.latents,
                "scale": scale_of(run.pipe),
            },
        )
        if branch:
            take_over(self.store, branch.trajectory, told.id, branch.step)
        return Recording(self.store, told, branch.step if branch else 0)

    def keeping(self, film: Recording) -> dict[str, Any]:
        """How the run's finished picture is kept: through its folder, so that a kill in the middle neither
        loses nor doubles it; past it where the film cannot be written (any more)."""
        id = film.run.id

        def promise(path: Path) -> None:
            try:
                whole = self.store.folder(id) / resuming.PICTURE
                data = (whole if whole.is_file() else path).read_bytes()
                self.store.change(id, picture=str(path), picture_key=key_of(data))
            except OSError:
                if not film.note:
                    raise  # the disk fills up now: the picture would be made again if the program ended here

        through = {} if film.note else {"through": self.store.folder(id) / resuming.PICTURE}
        return {**through, "promise": promise}

    # Afterwards

    def painted(self, id: str) -> str:
        """The store's key of the picture that a run has become; "" where it has not, or is gone."""
        return self.store.get(id).picture_key if self.store.exists(id) else ""

    def film(self, id: str) -> dict[str, Any]:
        """See pipelines.film.develop."""
        return develop.film(self.store, id, _developed)

    def compare(self, first: str, second: str) -> dict[str, Any]:
        """See pipelines.film.compare."""
        return compare.compare(self.store, first, second, _developed)

    def schedules(self, id: str, steps: int) -> list[dict[str, Any]]:
        """What every sampler and schedule keeps of a picture, for the model of a run; see
        pipelines.film.forward. Raises as `decode`."""
        request = forward.request_of(self.store.get(id), self._library)
        if (request.model, steps) not in self._lines:  # some samplers take half a second to be made
            found: list[Schedules] = []
            self._look(request, 0, lambda look: found.append(Schedules.of(self._load(request))))
            lines = forward.levels(found[0], checks.samplers_of(found[0].spec), steps)
            self._lines[request.model, steps] = lines
        return self._lines[request.model, steps]

    def noised(self, id: str, picture: str, sampler: str, schedule: str, steps: int) -> list[dict[str, Any]]:
        """A stored picture, or the run's own where none is named, noised along a schedule of the run's model;
        see pipelines.film.forward. Raises as `decode`."""
        run = self.store.get(id)
        request = forward.request_of(run, self._library)
        given = self._picture(picture) if picture else _finished(run)
        shown = resized(given, request.width, request.height, "crop and resize")
        told: list[dict[str, Any]] = []

        def see(look: looking.Look) -> None:
            noising = Noising(Schedules.of(self._load(request)), sampler, schedule, steps)
            told.extend(forward.noised(noising, look.run, shown))

        self._look(request, run.index, see)
        return told

    def perceptual(self, files: tuple[Path, Path], reference: str, ids: Sequence[str]) -> dict[str, float]:
        """LPIPS of the finished pictures of `ids` to the one of `reference`, where both are of one size.
        files: see perceptual.weights. Raises `UnknownTrajectory`, ValueError for other files."""
        if files not in self._perceptual:
            self._perceptual[files] = Perceptual(files)
        measure, one = self._perceptual[files], _finished(self.store.get(reference))
        others = {id: _finished(self.store.get(id)) for id in ids}
        return {id: measure(one, other) for id, other in others.items() if other.size == one.size}

    def decode(self, id: str, step: int, what: str) -> bytes:
        """A PNG file of a step's predicted picture ("x0") or of what came into it ("x_t"), or the finished
        picture ("picture"), by the run's own pipeline. Raises `UnknownTrajectory`, `CannotLook` and
        `InvalidRequest`, all with sentences."""
        return looking.decode(self.store, self._library, self._look, id, step, what)

    def attention(self, id: str, step: int) -> dict[str, Any]:
        """Where the words of a step acted: see pipelines.film.attention.told. Raises as `decode`."""
        return attention.told(self.store.get(id), attention.listen(self.store, self._look, id, step))


def _finished(run: RunInfo) -> Image:
    from PIL import Image

    try:
        return Image.open(run.picture).convert("RGB")
    except (OSError, ValueError, AttributeError):
        raise UnknownTrajectory("This run has no finished picture to be noised: drop another one.") from None


def _developed(run: RunInfo, latents: Tensor) -> Image:
    return LatentToRGB.from_lists(**run.about["to_rgb"])(develop.grid(run, latents))


def _latents_of(pixels: np.ndarray, model: LoadedModel) -> Tensor:
    """Pixels (h, w, 3) as latents (1, channels, h', w') of that model."""
    import numpy as np
    import torch

    decoder = FAMILIES[model.spec.family].decoder
    shares = torch.from_numpy(np.asarray(pixels, np.float32) / 255).permute(2, 0, 1)[None]
    if not decoder:  # it paints the pixels themselves
        return shares * 2 - 1
    vae = getattr(model.pipeline, decoder)
    place = next(vae.parameters())
    with torch.no_grad():
        return encoded(vae, shares.to(place.device, place.dtype)).cpu()  # type: ignore[no-any-return]
