"""A second model that ends a run: from a share of the steps on it denoises in the first one's place.

The denoisers change within one run, at the timestep where diffusers' `denoising_end` and `denoising_start`
cut (Podell et al., 2023), so there is one film, one scheduler and one stop. A sampler that looks back over
several steps goes on doing so over the change, where two calls would begin it anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.library.models import ModelLibrary, ModelSpec
    from pipelines.request import GenerationRequest

_FAMILIES = ("SD", "SDXL")
_AESTHETIC, _NEGATIVE_AESTHETIC = 6.0, 2.5
"""What diffusers tells SDXL's refiner where nothing is asked for."""


def check(request: GenerationRequest, model: ModelSpec, library: ModelLibrary) -> None:
    """Raises `InvalidRequest` where there is no such refiner, or it cannot go on from the latents."""
    if not request.refiner:
        return
    try:
        refiner = library.find(request.refiner)
    except InvalidRequest as unknown:
        raise InvalidRequest({"refiner": str(unknown)}) from None
    why = _misfit(refiner, model)
    if why is not None:
        raise InvalidRequest({"refiner": f"{why} Choose another refiner, or none."})


def fits(refiner: ModelSpec, model: ModelSpec) -> bool:
    """Whether `refiner` can end a run that `model` begins."""
    return _misfit(refiner, model) is None


def _misfit(refiner: ModelSpec, model: ModelSpec) -> str | None:
    if model.family not in _FAMILIES:
        return f"A refiner goes with SD and SDXL models, and {model.title} is {model.family}."
    if refiner.family != model.family:
        return f"{refiner.title} is {refiner.family} and cannot go on with the latents of {model.title}."
    for spec, kinds in ((refiner, ("", "refiner")), (model, ("",))):
        if spec.variant not in kinds:
            return f"{spec.title} is made for something else ({spec.variant}), and takes no part in refining."
    mine, theirs = (spec.config("scheduler").get("prediction_type", "epsilon") for spec in (refiner, model))
    if mine != theirs:
        return f"{refiner.title} predicts otherwise ({mine}) than {model.title} ({theirs})."
    return None


def hand_over(pipe: Any, refiner: Any, words: Mapping[str, Any], request: GenerationRequest) -> None:
    """Makes a view's denoiser that of `refiner` (its base pipeline) from the request's share of the steps on.

    words: the refiner's prompt embeddings, as `prompts.encode` gives them.
    """
    import torch

    trained = int(pipe.scheduler.config.num_train_timesteps)
    cut = round(trained - request.refiner_switch_at * trained)
    base, handle = pipe.unet, copy.copy(pipe.unet)
    embeds = _stacked(words, "prompt_embeds")
    conditions: dict[str, Tensor] = {}
    if "pooled_prompt_embeds" in words:
        conditions["text_embeds"] = _stacked(words, "pooled_prompt_embeds")
        times = [[*_time_ids(refiner, request, negative)] for negative in (True, False)[2 - len(embeds) :]]
        conditions["time_ids"] = torch.tensor(times, dtype=embeds.dtype, device=embeds.device)

    def forward(
        sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        if float(timestep) >= cut:
            return base.forward(sample, timestep, encoder_hidden_states, *args, **kwargs)
        if conditions:
            kwargs["added_cond_kwargs"] = conditions
        return refiner.unet(sample, timestep, embeds, *args, **kwargs)

    handle.__dict__["forward"] = forward
    pipe.unet = handle


def _stacked(words: Mapping[str, Any], name: str) -> Tensor:
    """The embeddings as a denoiser takes them: with guidance the negative ones first."""
    import torch

    negative = words.get(f"negative_{name}")
    return words[name] if negative is None else torch.cat([negative, words[name]])


def _time_ids(refiner: Any, request: GenerationRequest, negative: bool) -> tuple[float, ...]:
    """SDXL's picture size and crop, and its refiner's aesthetic score, as diffusers tells them."""
    size = (request.height, request.width, 0, 0)
    if refiner.config.get("requires_aesthetics_score", False):
        return (*size, _NEGATIVE_AESTHETIC if negative else _AESTHETIC)
    return (*size, request.height, request.width)


@dataclass(frozen=True)
class Refined:
    """The second half of a run: the refiner's pipeline, its prompt embeddings, and its adapters' weights."""

    pipeline: Any
    words: Mapping[str, Any]
    at_step: Callable[[int, int], None]

    def onto(self, pipe: Any, request: GenerationRequest) -> None:
        """Makes a view go on with the refiner."""
        hand_over(pipe, self.pipeline, self.words, request)

    def beside(self, at_step: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """Tells both halves' adapters which step it is."""

        def told(index: int, total: int) -> None:
            at_step(index, total)
            self.at_step(index, total)

        return told
