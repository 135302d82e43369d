"""Control modes: prompt and map give way to each other as elsewhere, and a run leaves no trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines.controlnet.control_modes import SOFTENING, control_modes, weighed
from pipelines.controlnet.control_networks import control_kwargs, view
from pipelines.request import ControlUnit
from tests.support import tiny
from tests.support.led import call, picture, unit

Fixtures = dict[str, Any]
MODES = ("balanced", "prompt", "control")
LED = [("sd", "sd-canny"), ("sdxl", "sdxl-canny"), ("sdxl", "sdxl-union")]


@pytest.fixture(scope="module")
def bases() -> Fixtures:
    return {"sd": tiny.sd(), "sd-adapted": tiny.sd(attentive_first=True), "sdxl": tiny.sdxl()}


@pytest.fixture(scope="module")
def loaded() -> Fixtures:
    return {
        "sd-canny": tiny.sd_controlnet(1),
        "sd-pose": tiny.sd_controlnet(2),
        "sd-adapter": tiny.sd_adapter(),
        "sdxl-canny": tiny.sdxl_controlnet(),
        "sdxl-union": tiny.sdxl_union(),
    }


class Spec:
    """As much of a ControlSpec as control_kwargs looks at."""

    def __init__(self, key: str):
        self.family = "SDXL" if key.startswith("sdxl") else "SD"
        self.sort = key.split("-")[1] if key.split("-")[1] in ("union", "adapter") else "controlnet"


def paint(base: Any, keys: list[str], loaded: Fixtures, modes: list[str], **more: Any) -> np.ndarray:
    """A three-step picture led by the networks of those keys, each in its mode."""
    networks = [loaded[key] for key in keys]
    units = [unit(control_mode=mode) for mode in modes]
    maps = [picture(number + 1) for number in range(len(keys))]
    scheduler = type(base.scheduler).from_config(base.scheduler.config)
    pipe = view(base, more.pop("task", "text2image"), networks, scheduler)
    pipe.set_progress_bar_config(disable=True)
    usual = call("text2image", "sd") | {"guidance_scale": 5.0} | more
    specs: Any = [Spec(key) for key in keys]
    with control_modes(units, networks, guidance=usual["guidance_scale"] > 1):
        image = pipe(**usual, **control_kwargs(pipe, units, maps, specs)).images
    assert not any(network._forward_hooks or network._forward_hooks_with_kwargs for network in networks)
    return np.asarray(image)


@pytest.mark.parametrize(("model", "key"), LED)
def test_modes_differ_and_leave_no_trace(model: str, key: str, bases: Fixtures, loaded: Fixtures) -> None:
    before = paint(bases[model], [key], loaded, ["balanced"])
    others = [paint(bases[model], [key], loaded, [mode]) for mode in MODES[1:]]
    assert len({image.tobytes() for image in (before, *others)}) == 3
    np.testing.assert_array_equal(before, paint(bases[model], [key], loaded, ["balanced"]))


# With guidance, guess mode of diffusers' union pipelines fails on its own batch size: ours has none of that.
@pytest.mark.parametrize(
    ("model", "key", "guidance"),
    [(*row, guidance) for row in LED for guidance in (1.0, 5.0) if (row[1], guidance) != ("sdxl-union", 5.0)],
)
def test_control_is_diffusers_guess_mode(
    model: str,
    key: str,
    guidance: float,
    bases: Fixtures,
    loaded: Fixtures,
) -> None:
    ours = paint(bases[model], [key], loaded, ["control"], guidance_scale=guidance)
    theirs = paint(bases[model], [key], loaded, ["balanced"], guidance_scale=guidance, guess_mode=True)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_prompt_is_the_residuals_scaled_by_hand(bases: Fixtures, loaded: Fixtures) -> None:
    ours = paint(bases["sd"], ["sd-canny"], loaded, ["prompt"])
    network = tiny.sd_controlnet()
    count = len(network.controlnet_down_blocks) + 1
    with torch.no_grad():  # the layers that make the residuals are linear: scale them instead
        for index, layer in enumerate([*network.controlnet_down_blocks, network.controlnet_mid_block]):
            layer.weight *= 0.825 ** (count - 1 - index)
            layer.bias *= 0.825 ** (count - 1 - index)
    theirs = paint(bases["sd"], ["sd-canny"], {"sd-canny": network}, ["balanced"])
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_thirteen_residuals_have_the_webuis_weights() -> None:
    ones = [torch.ones(1)] * 13
    soft = [float(one) for one in weighed(ones, "prompt")]
    assert soft[0] == pytest.approx(0.09941396206337118) and soft[12] == 1.0
    assert soft[6] == pytest.approx(SOFTENING**6)
    assert [float(one) for one in weighed(ones, "control")] == pytest.approx(soft, rel=0.01)
    with pytest.raises(ValueError, match="no weights for the control mode 'balanced'"):
        weighed(ones, "balanced")


@pytest.mark.parametrize("keys", [["sd-canny", "sd-pose"], ["sd-canny", "sd-canny"]])
def test_each_unit_has_its_own_mode(keys: list[str], bases: Fixtures, loaded: Fixtures) -> None:
    def led(*modes: str) -> np.ndarray:
        return paint(bases["sd"], keys, loaded, list(modes))

    seen = [led(first, second) for first in MODES for second in MODES]
    assert len({image.tobytes() for image in seen}) == 9


def test_a_network_of_two_units_is_weighed_like_two_networks(bases: Fixtures, loaded: Fixtures) -> None:
    one = paint(bases["sd"], ["sd-canny", "sd-canny"], loaded, ["prompt", "control"])
    twins = {"a-canny": tiny.sd_controlnet(), "b-canny": tiny.sd_controlnet()}
    np.testing.assert_array_equal(one, paint(bases["sd"], list(twins), twins, ["prompt", "control"]))


def test_unions_keep_units_apart_where_one_is_asleep(bases: Fixtures, loaded: Fixtures) -> None:
    """diffusers passes over a union whose scale is 0, so its calls cannot be told apart by counting them."""
    networks = [loaded["sdxl-union"]] * 2
    base = bases["sdxl"]
    modes: list[Any] = ["prompt", "control"]
    units = [
        unit(control_mode=modes[0], control_guidance_start=0.5),
        unit(control_mode=modes[1], preprocessor="depth_midas"),
    ]

    def led(nets: list[Any]) -> np.ndarray:
        pipe = view(base, "text2image", nets, type(base.scheduler).from_config(base.scheduler.config))
        pipe.set_progress_bar_config(disable=True)
        specs: Any = [Spec("sdxl-union")] * 2
        with control_modes(units, nets, guidance=True):
            extra = control_kwargs(pipe, units, [picture(1), picture(2)], specs)
            return np.asarray(pipe(**call("text2image", "sdxl"), guidance_scale=5.0, **extra).images)

    np.testing.assert_array_equal(led(networks), led([tiny.sdxl_union(), tiny.sdxl_union()]))


@pytest.mark.parametrize("mode", ["prompt", "control"])
def test_adapters_have_modes_too(mode: str, bases: Fixtures, loaded: Fixtures) -> None:
    plain = paint(bases["sd-adapted"], ["sd-adapter"], loaded, ["balanced"])
    assert not np.array_equal(plain, paint(bases["sd-adapted"], ["sd-adapter"], loaded, [mode]))


def test_pooled_networks_are_in_guess_mode_already(bases: Fixtures) -> None:
    """Shuffle ControlNets pool their residuals, and the pipelines then run them on half the batch."""
    from diffusers import ControlNetModel

    network = tiny.sd_controlnet()
    pooled = ControlNetModel(**{**_arguments(network), "global_pool_conditions": True}).eval()
    pooled.load_state_dict(network.state_dict())
    seen = [paint(bases["sd"], ["sd-shuffle"], {"sd-shuffle": pooled}, [mode]) for mode in MODES]
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


def _arguments(network: Any) -> dict[str, Any]:
    return {name: value for name, value in network.config.items() if not name.startswith("_")}


def test_hooks_go_when_a_run_fails(loaded: Fixtures) -> None:
    network = loaded["sd-canny"]
    units: list[ControlUnit] = [unit(control_mode="prompt")]
    with pytest.raises(RuntimeError, match="stopped"), control_modes(units, [network], guidance=True):
        assert len(network._forward_hooks) == 1
        raise RuntimeError("stopped")
    assert not network._forward_hooks and not network._forward_hooks_with_kwargs
