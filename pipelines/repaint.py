"""Repainting a part of a picture: what the model is shown of it, and how the result goes back.

Pixels outside the mask are never computed anew: they are copied from the original, whatever its depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines.pictures import Original, shallow
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    import numpy as np

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the canvas; may reach beyond it."""

_SEAM = 24.0  # pixels over which an extended area takes on the colours at its seam


@dataclass(frozen=True)
class Canvas:
    """A picture to be repainted, with its new borders, and the part of it that the model works on.

    pixels: (h, w, 3 or 4) uint8 or uint16, new borders filled with what lies beside them.
    amount: how much of each pixel is painted anew, float32 (h, w) in 0-1; what is 0 stays bit for bit.
    change: how far the model may go at each pixel, float32 (h, w) in 0-1: 0 or 1, but for soft inpainting.
    new: what lies beyond the original's borders, bool (h, w). box: what the model is shown.
    """

    pixels: np.ndarray
    amount: np.ndarray
    change: np.ndarray
    new: np.ndarray
    box: Box

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def shown(self, width: int, height: int, fill: bool) -> Image.Image:
        """What the model sees, RGB of width x height. With `fill` the masked area has its surroundings'
        colours instead of its own."""
        left, top, right, bottom = self.box
        across, down = (right - left) // 2, (bottom - top) // 2  # as much around as it takes to fill it
        x, y = max(0, left - across), max(0, top - down)
        place = (slice(y, bottom + down), slice(x, right + across))
        rgb, kept = shallow(self.pixels[place]), self.amount[place] == 0
        if fill:
            rgb = spread(rgb, kept)
        return _to_size(cut(rgb, (left - x, top - y, right - x, bottom - y)), width, height)

    def mask(self, width: int, height: int) -> Image.Image:
        """Where the model paints, as L of width x height: white where anything changes by half or more, or
        with soft inpainting at all."""
        import numpy as np

        soft = bool(((self.change > 0) & (self.change < 1)).any())
        painted = self.change > 0 if soft else np.maximum(self.amount, self.change) >= 0.5
        return _to_size(cut((painted * 255).astype(np.uint8), self.box, outside=0), width, height)

    def strengths(self, width: int, height: int) -> np.ndarray:
        """`change` of what the model sees, float32 (height, width)."""
        import cv2
        import numpy as np

        part = cut(self.change, self.box, outside=0)
        return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.float32)

    def with_painted(self, painted: Image.Image) -> np.ndarray:
        """The whole picture with what the model painted in its place: shape and depth of `pixels`."""
        import numpy as np

        left, top, right, bottom = self.box
        width, height = self.size
        scaled = np.asarray(_to_size(np.asarray(painted), right - left, bottom - top))
        inner = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        scaled = cut(scaled, (inner[0] - left, inner[1] - top, inner[2] - left, inner[3] - top))
        sized = scaled.astype(np.float32)
        place = (slice(inner[1], inner[3]), slice(inner[0], inner[2]))
        if self.new[place].any():
            kept = self.amount[place] == 0
            sized = matched(sized, shallow(self.pixels[place]).astype(np.float32), self.new[place], kept)
        deep = self.pixels.dtype == np.uint16
        if deep:
            sized = sized * 257
        top_value = 65535 if deep else 255
        share = self.amount[place]
        touched = share > 0
        result = self.pixels.copy()
        part = result[place]
        ours = share[touched][:, None]
        theirs = 1 - ours
        if result.shape[2] == 4:  # what is painted can be seen; what could not be seen has no colour to give
            theirs = theirs * (part[touched][:, 3:] / np.float32(top_value))
            part[..., 3][touched] = np.rint((theirs + ours)[:, 0] * top_value).astype(result.dtype)
        mixed = (part[..., :3][touched] * theirs + sized[touched] * ours) / (theirs + ours)
        part[..., :3][touched] = np.clip(np.rint(mixed), 0, top_value).astype(result.dtype)
        return result

    def untouched(self, result: np.ndarray) -> int:
        """How many pixels lie outside the mask and equal the original's in `result`. Raises RuntimeError
        when one of them does not: then this program is wrong, and must not say otherwise."""
        outside = (self.amount == 0) & ~self.new
        if (result[outside] != self.pixels[outside]).any():
            raise RuntimeError("Pixels outside the mask were changed.")
        return int(outside.sum())


def canvas_for(request: GenerationRequest, original: Original, mask: Original | None) -> Canvas:
    """The canvas of a request for inpainting. mask: the picture whose white is painted anew.

    Raises `InvalidRequest` for a mask of another shape, or one that leaves nothing to paint.
    """
    import numpy as np

    width, height = original.size
    painted = np.zeros((height, width), np.float32)
    if mask is not None:
        painted = _mask_amounts(mask, width, height)
        if request.mask_inverted:
            painted = 1 - painted
    left, top, right, bottom = request.extension
    around = ((top, bottom), (left, right))
    new = np.pad(np.zeros((height, width), bool), around, constant_values=True)
    painted = np.pad(painted, around)
    soft = request.soft_inpainting
    hard = painted if soft else (painted >= 0.5).astype(np.float32)
    if not (hard > 0).any() and not new.any():
        raise InvalidRequest(
            {
                "mask_image": "The mask is empty, so nothing would be painted: paint over what is to change, "
                "or extend the picture."
            }
        )
    amount = _blurred(np.clip(hard * 4, 0, 1) if soft else hard, request.mask_blur)
    amount[new] = 1
    change = np.where(new, np.float32(1), hard)
    pixels = np.pad(original.pixels, (*around, (0, 0)), mode="edge")
    if new.any():
        grown = spread(pixels[..., :3], ~new)
        pixels[..., :3] = grown
    box = _box(request, amount > 0, (pixels.shape[1], pixels.shape[0]))
    return Canvas(pixels, amount, change, new, box)


def _mask_amounts(mask: Original, width: int, height: int) -> np.ndarray:
    """A mask's brightness in 0-1 at the picture's size; one of the same shape is scaled."""
    import cv2
    import numpy as np

    across, down = mask.size
    if abs(across / down - width / height) > 0.02 * (width / height) + 1 / min(across, down, width, height):
        raise InvalidRequest(
            {
                "mask_image": f"The mask ({across} x {down}) has another shape than the picture "
                f"({width} x {height}): paint it anew, or load one of the picture's own shape."
            }
        )
    grey = cv2.cvtColor(shallow(mask.pixels), cv2.COLOR_RGB2GRAY)
    if (across, down) != (width, height):
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grey, np.float32) / 255


def _blurred(amount: np.ndarray, sigma: int) -> np.ndarray:
    """A Gaussian blur that reaches 2.5 sigma and no further (the webui's kernel): beyond, 0 stays 0."""
    import cv2
    import numpy as np

    if not sigma:
        return amount.copy()
    reach = int(2.5 * sigma + 0.5)
    rows, columns = np.flatnonzero(amount.any(1)), np.flatnonzero(amount.any(0))
    result = np.zeros_like(amount)
    if rows.size:  # all else stays 0, and a photograph is much larger than what is painted in it
        place = (
            slice(max(0, int(rows[0]) - reach), int(rows[-1]) + 1 + reach),
            slice(max(0, int(columns[0]) - reach), int(columns[-1]) + 1 + reach),
        )
        kernel = (2 * reach + 1, 2 * reach + 1)
        result[place] = cv2.GaussianBlur(amount[place], kernel, sigma, borderType=cv2.BORDER_REPLICATE)
    return result


def _box(request: GenerationRequest, touched: np.ndarray, size: tuple[int, int]) -> Box:
    """What the model is shown: the masked area with its padding, or all, in the run's proportions."""
    import numpy as np

    width, height = size
    target = request.width / request.height
    if request.inpaint_area == "only masked":
        rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        pad = request.mask_padding
        box = (
            max(0, int(columns[0]) - pad),
            max(0, int(rows[0]) - pad),
            min(width, int(columns[-1]) + 1 + pad),
            min(height, int(rows[-1]) + 1 + pad),
        )
        return _inside(_grown(box, target), size)
    whole = (0, 0, width, height)
    if request.resize_mode == "just resize" or abs(width / height / target - 1) < 0.03:
        return whole  # rounding to steps of 8 is no other shape
    shrunk = _shrunk(whole, target)
    seen = np.zeros_like(touched)
    seen[shrunk[1] : shrunk[3], shrunk[0] : shrunk[2]] = True
    if request.resize_mode == "resize and fill" or (touched & ~seen).any():
        return _grown(whole, target)  # what is cut off would not be painted
    return shrunk


def _grown(box: Box, target: float) -> Box:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    wider, higher = max(width, round(height * target)), max(height, round(width / target))
    if wider > width:
        higher = height
    x, y = left - (wider - width) // 2, top - (higher - height) // 2
    return x, y, x + wider, y + higher


def _shrunk(box: Box, target: float) -> Box:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    narrower, lower = min(width, round(height * target)), min(height, round(width / target))
    x, y = left + (width - narrower) // 2, top + (height - lower) // 2
    return x, y, x + narrower, y + lower


def _inside(box: Box, size: tuple[int, int]) -> Box:
    """The box moved into the picture as far as it fits there."""
    left, top, right, bottom = box
    x0, x1 = _moved(left, right, size[0])
    y0, y1 = _moved(top, bottom, size[1])
    return x0, y0, x1, y1


def _moved(start: int, end: int, length: int) -> tuple[int, int]:
    if end - start >= length:  # larger than the picture: as far beyond one side as the other
        shift = -start - (end - start - length) // 2
    else:
        shift = max(0, -start) - max(0, end - length)
    return start + shift, end + shift


def cut(pixels: np.ndarray, box: Box, outside: float | None = None) -> np.ndarray:
    """The part of `pixels` (h, w, ...) in `box`; beyond the picture its edge goes on, or is `outside`."""
    import numpy as np

    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    inner = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    around: list[tuple[int, int]] = [
        (max(0, -top), max(0, bottom - height)),
        (max(0, -left), max(0, right - width)),
        *[(0, 0)] * (pixels.ndim - 2),
    ]
    if not any(map(any, around)):
        return inner
    if outside is None:
        return np.pad(inner, around, mode="edge")
    return np.pad(inner, around, constant_values=outside)


def _to_size(pixels: Any, width: int, height: int) -> Image.Image:
    image = Image.fromarray(pixels)
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def spread(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`rgb` (h, w, 3) with what is not `known` (h, w) filled smoothly from what is: averages of ever coarser
    levels are pushed down and pulled back up (Gortler et al., The Lumigraph, 1996, section 3.4)."""
    import cv2
    import numpy as np

    weight = known.astype(np.float32)
    if not weight.any():
        return rgb.copy()
    levels = [(rgb.astype(np.float32) * weight[..., None], weight)]
    while max(levels[-1][1].shape) > 1 and (levels[-1][1] == 0).any():
        colour, share = levels[-1]
        half = (max(1, (share.shape[1] + 1) // 2), max(1, (share.shape[0] + 1) // 2))
        levels.append(
            (
                cv2.resize(colour, half, interpolation=cv2.INTER_AREA),
                cv2.resize(share, half, interpolation=cv2.INTER_AREA),
            )
        )
    colour, share = levels[-1]
    filled = colour / np.maximum(share, 1e-6)[..., None]
    for colour, share in reversed(levels[:-1]):
        above = cv2.resize(filled, (share.shape[1], share.shape[0]), interpolation=cv2.INTER_LINEAR)
        own = colour / np.maximum(share, 1e-6)[..., None]
        sure = np.clip(share, 0, 1)[..., None]
        filled = own * sure + above * (1 - sure)
    result = np.clip(np.rint(filled), 0, np.iinfo(rgb.dtype).max).astype(rgb.dtype)
    result[known] = rgb[known]
    return result


def matched(painted: np.ndarray, original: np.ndarray, new: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`painted` (h, w, 3) float32 whose colours in the `new` area begin with those of `original` at the seam.

    The model paints the old area too, a little off; how far off it is at the seam is taken off the new area,
    fading out over some 24 pixels. Only what is `kept` of the old area (h, w) tells: elsewhere the model
    was asked to paint something else.
    """
    import cv2
    import numpy as np

    old = (kept & ~new).astype(np.float32)
    if not old.any():
        return painted
    off = (original - painted) * old[..., None]
    share = cv2.GaussianBlur(old, (0, 0), 4)
    smooth = cv2.GaussianBlur(off, (0, 0), 4) / np.maximum(share, 1e-3)[..., None]
    seam = nearest(smooth, cv2.erode(old, np.ones((3, 3), np.uint8)) > 0)
    distance = cv2.distanceTransform(new.astype(np.uint8), cv2.DIST_L2, 5)
    fade = np.exp(-distance / _SEAM)[..., None]
    return painted + seam * fade * new[..., None]


def nearest(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`values` (h, w, 3) float32 with what is not `known` (h, w) set to the nearest that is."""
    import cv2
    import numpy as np

    if not known.any():
        return np.zeros_like(values)
    source = np.where(known, 0, 255).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(source, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros((labels.max() + 1, values.shape[2]), np.float32)
    table[labels[known]] = values[known]
    return table[labels]
