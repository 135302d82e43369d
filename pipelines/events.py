"""What happens, told upward: small frozen values that can be pickled and hold no tensor.

Every job ends in exactly one of Finished, Failed and Cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Queued:
    """The job is accepted and waits; `ahead` jobs run before it."""

    ahead: int


@dataclass(frozen=True)
class Loading:
    """The engine or a model is coming up; `message` is a sentence for the page."""

    message: str


@dataclass(frozen=True)
class StepEvent:
    """One denoising step is done.

    step: steps done of this picture, 1 .. total. picture: index of the picture, 0 .. pictures - 1.
    timestep and sigma: where on the schedule the step began (sigma None where the scheduler has none).
    preview: JPEG of the predicted picture (x0), empty when it is the same as the last one.
    seconds: since the first step of this job began. request_seed: the seed of this picture.
    """

    step: int
    total: int
    picture: int
    pictures: int
    timestep: float
    sigma: float | None
    preview: bytes
    seconds: float
    seed: int


@dataclass(frozen=True)
class Picture:
    """A finished picture that has been written to disk.

    path: of the PNG file. parameters: its generation text. preview: JPEG for the page.
    """

    path: str
    seed: int
    width: int
    height: int
    parameters: str
    preview: bytes


@dataclass(frozen=True)
class Paused:
    """The job rests after step `step` of `total` of its picture `picture` and can be gone on with; step 0
    where it had not begun."""

    step: int
    total: int
    picture: int = 0


@dataclass(frozen=True)
class PictureDone:
    """One picture of the job is written; more may follow."""

    picture: Picture
    index: int


@dataclass(frozen=True)
class Finished:
    """All pictures are written. seconds: from first step to last file. stopped: kept before the last step."""

    pictures: tuple[Picture, ...]
    seconds: float
    stopped: bool = False
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Failed:
    """The job ended in an error; `message` says what happened, why and what to do.

    problems: field name -> sentence, where the cause is a setting. detail: for a developer (traceback).
    """

    message: str
    problems: dict[str, str] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True)
class Cancelled:
    """The job was stopped by its owner. Pictures finished before the stop stay on disk."""

    pictures: tuple[Picture, ...] = ()


Terminal = Finished | Failed | Cancelled
Event = Queued | Loading | StepEvent | Paused | PictureDone | Terminal


@dataclass(frozen=True)
class EngineState:
    """How the engine is: `ready` when it takes work at once, `message` a sentence for the page.

    fault: it is up but cannot work, and `message` says why; jobs fail with the same sentence.
    device: what runs and why, in words ("CPU, bfloat16: this processor has bf16 matrix units").
    badge: the same in a word or two for the header ("CPU, bf16").
    note: a sentence that does not hinder work: about the journal of jobs.
    """

    ready: bool
    message: str
    badge: str = ""
    device: str = ""
    fault: bool = False
    note: str = ""
