"""A page with painters for tests and benchmarks, and the hand that paints on it."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from fastapi.responses import Response
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.bench import framed, with_page
from tests.support.served import serving
from ui.components.painter import painter

Point = tuple[float, float]
Mask = np.ndarray[Any, np.dtype[np.uint8]]


class Shelf:
    """What the page has sent, by key; the newest last."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.problem = ""
        self._count = itertools.count(1)

    def put(self, data: bytes) -> dict[str, Any]:
        key = f"k{next(self._count)}"
        self.files[key] = data
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        return {"key": key, "width": width, "height": height, "url": f"kept/{key}"}

    def keep(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.problem:
            return {"problem": self.problem}
        return self.put(Path(asked["path"]).read_bytes())

    def image(self, key: str) -> Image.Image:
        return Image.open(io.BytesIO(self.files[key]))


@contextmanager
def served(shelf: Shelf) -> Iterator[str]:
    """The address of a page with a painter of each kind, each on its own tab, and what they told below."""
    with gr.Blocks() as blocks:
        parts = {}
        told = gr.Textbox(elem_id="told", label="told", render=False)
        for mode, extendable in (("mask", True), ("sketch", False), ("map", False)):
            with gr.Tab(mode):
                part = painter(shelf.keep, mode, mode, extendable)  # type: ignore[arg-type]
                parts[mode] = part
                part.painted(json.dumps, part, told, trigger_mode="always_last")
        for word, there in (("hide", False), ("show", True)):  # out of the page and into it again
            gr.Button(word, elem_id=word).click(
                lambda there=there: gr.update(visible=there), None, parts["mask"]
            )
        told.render()  # below: it grows, and nothing may move under the mouse
    app = framed()
    app.get("/kept/{key}")(lambda key: Response(shelf.files[key], media_type="image/png"))
    with serving(with_page(app, blocks)) as address:
        yield address


class Easel:
    """The painter on the page as a hand meets it: places of the page for pixels of the picture."""

    def __init__(self, page: Page, shelf: Shelf, kind: str):
        self.page, self.shelf, self.kind = page, shelf, kind
        self.root = page.locator(f"#{kind} .painter")
        self.area = self.root.locator(".easel")
        self.air = 30 if kind == "mask" else 12
        self.width = self.height = 0

    def give(self, width: int, height: int, data: bytes | None = None) -> str:
        """Sends a picture to the painter as another part of the page would."""
        self.width, self.height = width, height
        image = self.shelf.put(data or picture(width, height))
        tell(self.page, "give", {"to": self.kind, "image": image})
        expect(self.root.locator(".foot")).to_contain_text(f"{width} × {height}")
        self.page.wait_for_function(FRAMES)
        return str(image["key"])

    def scale(self, extend: Sequence[int] = (0, 0)) -> float:
        box = self.box()
        across, down = (box["width"] - 2 - 2 * self.air), (box["height"] - 2 - 2 * self.air)
        return min(across / (self.width + extend[0]), down / (self.height + extend[1]))

    def box(self) -> Any:
        return self.area.bounding_box()

    def pixel(self, place: Point) -> Point:
        """The pixel of the picture, fitted, under a place of the page."""
        box, scale = self.box(), self.scale()
        left = box["x"] + (box["width"] - self.width * scale) / 2
        top = box["y"] + (box["height"] - self.height * scale) / 2
        return (place[0] - left) / scale, (place[1] - top) / scale

    def place(self, x: float, y: float) -> tuple[int, int]:
        """The place of the page, in whole pixels, of a part of the picture: (0.5, 0.5) is its middle."""
        box, scale = self.box(), self.scale()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        return (
            round(middle[0] + (x - 0.5) * self.width * scale),
            round(middle[1] + (y - 0.5) * self.height * scale),
        )

    def drag(self, *parts: Point, button: Any = "left") -> list[Point]:
        """Draws through parts of the picture; returns the pixels it went through."""
        places = [self.place(*part) for part in parts]
        mouse = self.page.mouse
        mouse.move(*places[0])
        mouse.down(button=button)
        for place in places[1:]:
            mouse.move(*place, steps=6)
        mouse.up(button=button)
        return [self.pixel(place) for place in places]

    def click(self, x: float, y: float) -> Point:
        place = self.place(x, y)
        self.page.mouse.click(*place)
        return self.pixel(place)

    def tool(self, name: str) -> None:
        self.root.locator(f"[data-deed={name}]").click()

    def slide(self, label: str, share: float) -> None:
        slider = self.root.get_by_role("slider", name=label, exact=True)
        most = float(slider.get_attribute("max") or 0)
        slider.fill(str(round(share * most)))

    def size(self) -> int:
        return int(self.root.locator(".sliders b").first.inner_text())

    def hard(self) -> None:
        self.slide("Hardness", 1)

    def value(self) -> dict[str, Any]:
        """What the painter holds once all is sent."""
        return dict(self.page.evaluate(FLUSHED, self.kind))

    def told(self, what: str) -> dict[str, Any]:
        """What the program has been told, once `what`, a condition on `value` in JavaScript, is met."""
        self.page.wait_for_function(
            f"(() => {{ const value = JSON.parse(document.querySelector('#told textarea').value || '{{}}');"
            f" return {what}; }})()"
        )
        return dict(json.loads(self.page.input_value("#told textarea")))

    def mask(self) -> Mask:
        """The mask as it arrived; black where nothing is painted."""
        key = self.value()["mask"]
        if key is None:
            return np.zeros((self.height, self.width), np.uint8)
        image = self.shelf.image(key)
        assert image.mode == "L"
        return np.asarray(image)

    def painted(self) -> Mask:
        """The flattened picture as it arrived."""
        return np.asarray(self.shelf.image(self.value()["image"]).convert("RGB"))


FLUSHED = """async (kind) => {
    const { painters } = await import(new URL('darkroom/js/painter-mount.js', document.baseURI));
    return painters.get(kind).flush();
}"""
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


def tell(page: Page, name: str, detail: dict[str, Any]) -> None:
    dispatch = "([name, detail]) => document.dispatchEvent(new CustomEvent('darkroom:' + name, { detail }))"
    page.evaluate(dispatch, [name, detail])


def picture(width: int, height: int, colour: tuple[int, int, int] = (40, 90, 160)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()
