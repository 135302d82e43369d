"""The table of preprocessors: what makes a control map out of a picture, and what each needs.

A preprocessor is added with a row here and, where its class is loaded in a way of its own, a line in
`detectors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

ANNOTATORS = "lllyasviel/Annotators"

UNION_MODES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        # https://huggingface.co/xinsir/controlnet-union-sdxl-1.0, ControlNetModel_Union's control_type
        "SDXL": {"pose": 0, "depth": 1, "soft": 2, "line": 3, "normal": 4, "segments": 5},
        # https://huggingface.co/InstantX/FLUX.1-dev-Controlnet-Union: canny 0, tile 1, depth 2, ..., pose 4
        "Flux": {"line": 0, "depth": 2, "pose": 4},
    }
)
"""Family -> sort of map -> the number by which a union ControlNet is told of it."""


@dataclass(frozen=True)
class Weights:
    """A file of weights: `name` on this disk, and in `repo` on huggingface.co, there in `subfolder`; or at
    `url`, from where a person fetches it. size: about how many megabytes."""

    name: str
    size: int
    repo: str = ANNOTATORS
    subfolder: str | None = None
    url: str = ""

    @property
    def source(self) -> str:
        """Where it can be downloaded by hand."""
        place = f"{self.subfolder}/{self.name}" if self.subfolder else self.name
        return self.url or f"https://huggingface.co/{self.repo}/resolve/main/{place}"


@dataclass(frozen=True)
class Preprocessor:
    """One way from a picture to a map.

    title, hint, group: for people. sort: of map, "" where it is none that a union knows. detector: class in
    controlnet_aux, "" where none is needed. weights: its files, the first the main one. options: arguments of
    its call. packages: what must be importable besides. largest: the short side in pixels up to which it
    looks at a picture itself; a larger one is made smaller, since attention and heat maps would not fit.
    """

    key: str
    title: str
    hint: str
    group: str
    sort: str = ""
    detector: str = ""
    weights: tuple[Weights, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    largest: int = 2048

    @property
    def size(self) -> int:
        """Megabytes of weights to fetch, 0 for none."""
        return sum(file.size for file in self.weights)

    def union_mode(self, family: str) -> int | None:
        """The number by which union ControlNets of a family know its maps; None where they do not."""
        return UNION_MODES.get(family, {}).get(self.sort)


_HED = (Weights("ControlNetHED.pth", 29),)
_PIDINET = (Weights("table5_pidinet.pth", 3),)
_LINEART = (Weights("sk_model.pth", 17), Weights("sk_model2.pth", 17))
_BODY = Weights("body_pose_model.pth", 209)
_TEED = (Weights("5_model.pth", 1, "fal-ai/teed"),)
_MTEED = (Weights("MTEED.pth", 1, "TheMistoAI/MistoLine", "Anyline"),)
_SCRIBBLE = MappingProxyType({"scribble": True})

_ROWS = (
    Preprocessor("none", "None", "The picture is the map already.", "Ready maps"),
    Preprocessor(
        "invert", "Invert", "Black lines on white paper become white on black.", "Ready maps", "line"
    ),
    Preprocessor("canny", "Canny edges", "Sharp edges, between two thresholds.", "Edges and lines", "line"),
    Preprocessor(
        "softedge_hed", "Soft edges (HED)", "Edges as strong as they look.", "Edges and lines", "soft",
        "HEDdetector", _HED,
    ),
    Preprocessor(
        "softedge_pidinet", "Soft edges (PidiNet)", "Like HED, cleaner and smaller.", "Edges and lines",
        "soft", "PidiNetDetector", _PIDINET,
    ),
    Preprocessor(
        "teed", "Edges (TEED)", "Thin edges by a tiny network.", "Edges and lines", "soft", "TEEDdetector",
        _TEED,
    ),
    Preprocessor(
        "anyline", "Lines (AnyLine)", "Edges and fine texture lines together.", "Edges and lines", "line",
        "AnylineDetector", _MTEED,
    ),
    Preprocessor(
        "mlsd", "Straight lines (M-LSD)", "Buildings and rooms.", "Edges and lines", "line", "MLSDdetector",
        (Weights("mlsd_large_512_fp32.pth", 6),),
    ),
    Preprocessor(
        "lineart", "Line art", "A drawing's lines.", "Edges and lines", "line", "LineartDetector", _LINEART
    ),
    Preprocessor(
        "lineart_coarse", "Line art, coarse", "Fewer, broader lines.", "Edges and lines", "line",
        "LineartDetector", _LINEART, {"coarse": True},
    ),
    Preprocessor(
        "lineart_anime", "Line art, anime", "Lines as in animation.", "Edges and lines", "line",
        "LineartAnimeDetector", (Weights("netG.pth", 218),),
    ),
    Preprocessor(
        "lineart_standard", "Line art, plain", "What is darker than its surroundings.", "Edges and lines",
        "line", "LineartStandardDetector",
    ),
    Preprocessor(
        "scribble_hed", "Scribble (HED)", "Edges as if by a thick pen.", "Scribbles", "soft", "HEDdetector",
        _HED, _SCRIBBLE,
    ),
    Preprocessor(
        "scribble_pidinet", "Scribble (PidiNet)", "Edges as if by a thick pen.", "Scribbles", "soft",
        "PidiNetDetector", _PIDINET, _SCRIBBLE,
    ),
    Preprocessor(
        "openpose", "Pose", "Bodies as skeletons.", "People", "pose", "OpenposeDetector", (_BODY,),
        largest=768,
    ),
    Preprocessor(
        "openpose_full", "Pose with hands and face", "Skeletons, fingers and faces.", "People", "pose",
        "OpenposeDetector", (_BODY, Weights("hand_pose_model.pth", 147), Weights("facenet.pth", 154)),
        {"include_hand": True, "include_face": True}, largest=768,
    ),
    Preprocessor(
        "dwpose", "Pose (DWPose)", "Skeletons, fingers and faces, surer.", "People", "pose", "DWposeDetector",
        (
            Weights("dw-ll_ucoco_384.pth", 407, "wanghaofan/dw-ll_ucoco_384"),
            Weights(
                "yolox_l_8x8_300e_coco_20211126_140236-d3bd2b23.pth",
                218,
                url="https://download.openmmlab.com/mmdetection/v2.0/yolox/yolox_l_8x8_300e_coco/"
                "yolox_l_8x8_300e_coco_20211126_140236-d3bd2b23.pth",
            ),
        ),
        packages=("mmcv", "mmpose", "mmdet"),
    ),
    Preprocessor(
        "mediapipe_face", "Face", "Outlines of eyes, mouth and face.", "People", "", "MediapipeFaceDetector",
        packages=("mediapipe",),
    ),
    Preprocessor(
        "depth_midas", "Depth (MiDaS)", "Near is bright.", "Space", "depth", "MidasDetector",
        (Weights("dpt_hybrid-midas-501f0c75.pt", 493),), packages=("timm",), largest=1024,
    ),
    Preprocessor(
        "depth_leres", "Depth (LeReS)", "More detail far away.", "Space", "depth", "LeresDetector",
        (Weights("res101.pth", 531),), largest=1024,
    ),
    Preprocessor(
        "depth_zoe", "Depth (ZoeDepth)", "Depth true to scale.", "Space", "depth", "ZoeDetector",
        (Weights("ZoeD_M12_N.pt", 1440),), packages=("timm",),
    ),
    Preprocessor(
        "normal_bae", "Normals (BAE)", "Which way surfaces face.", "Space", "normal", "NormalBaeDetector",
        (Weights("scannet.pt", 291),), largest=1024,
    ),
    Preprocessor(
        "segment_sam", "Segments (SAM)", "Parts in colours of their own.", "Space", "segments", "SamDetector",
        (Weights("mobile_sam.pt", 41, "dhkim2810/MobileSAM"),), packages=("timm",),
    ),
    Preprocessor(
        "shuffle", "Shuffle", "Colours and textures without their places.", "Colours", "",
        "ContentShuffleDetector",
    ),
)  # fmt: skip

PREPROCESSORS: Mapping[str, Preprocessor] = MappingProxyType({row.key: row for row in _ROWS})
