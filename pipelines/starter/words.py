"""Captions: what a scene is called in words, in many wordings, and exactly what the words ask for.

A caption never says what is not in the picture, and often leaves out much of what is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .figure import HAIR, POSES
from .scenes import BACKDROPS, GROUNDS, PAINTS, PEOPLE, PETALS, PLACES, SHIRTS, TIMES, TREES, Scene
from .things import FUR

NONE = "none"

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": TIMES,
    "ground": GROUNDS,
    "backdrop": (NONE, *BACKDROPS),
    "person": (NONE, *PEOPLE),
    "shirt": (NONE, *SHIRTS),
    "hair": (NONE, *HAIR),
    "pose": (NONE, *POSES, "free"),
    "person place": (NONE, *PLACES),
    "house": (NONE, *PAINTS),
    "house place": (NONE, *PLACES),
    "tree": (NONE, *TREES),
    "tree place": (NONE, *PLACES),
    "cat": (NONE, *FUR),
    "cat place": (NONE, *PLACES),
    "boat": (NONE, *PAINTS),
    "boat place": (NONE, *PLACES),
    "balloon": (NONE, *PAINTS),
    "flowers": (NONE, *PETALS),
}
"""Each attribute that can be read out of a picture, and its values; a thing's value is its colour."""


def attributes(scene: Scene) -> dict[str, str]:
    """The value of every attribute of `scene`, NONE where the thing is not there."""
    person, trees = scene.person, scene.trees
    values = {
        "time": scene.time,
        "ground": scene.ground,
        "backdrop": scene.backdrop or NONE,
        "person": person.kind if person else NONE,
        "shirt": person.shirt if person else NONE,
        "hair": person.hair if person else NONE,
        "pose": person.pose if person else NONE,
        "person place": person.place if person else NONE,
        "tree": trees.kind if trees else NONE,
        "tree place": trees.place if trees else NONE,
        "balloon": scene.balloon.colour if scene.balloon else NONE,
        "flowers": scene.flowers or NONE,
    }
    for name in ("house", "cat", "boat"):
        thing = getattr(scene, name)
        values[name] = thing.colour if thing else NONE
        values[f"{name} place"] = thing.place if thing else NONE
    return values


@dataclass(frozen=True)
class Asked:
    """One thing that a caption asks for. `kind` is time, ground, object, colour, shirt or pose; `attribute`
    is a key of ATTRIBUTES; `value` is the value wanted, or None for any but NONE."""

    kind: str
    attribute: str
    value: str | None

    def found(self, read: dict[str, str]) -> bool:
        """Whether a picture whose attributes are `read` has it."""
        seen = read[self.attribute]
        return seen != NONE if self.value is None else seen == self.value


@dataclass(frozen=True)
class Caption:
    text: str
    asked: tuple[Asked, ...]


_ON_GROUND = {
    "meadow": ("on a meadow", "on a green meadow", "on the grass", "in a grassy field", "on a green field"),
    "snow": ("in the snow", "on the snow", "on a snowy field", "in a snowy landscape", "in winter"),
    "desert": ("in the desert", "in a sandy desert", "on sand dunes"),
    "beach": ("on the beach", "on a sandy beach", "at the beach", "at the seaside"),
    "sea": ("on the sea", "on the ocean", "at sea", "on the water"),
}
_GROUND_TAGS = {
    "meadow": ("meadow", "grass", "green field"),
    "snow": ("snow", "winter", "snowy field"),
    "desert": ("desert", "sand dunes"),
    "beach": ("beach", "sandy beach", "seaside"),
    "sea": ("sea", "ocean", "open sea"),
}
_ALONE = {
    "meadow": ("a meadow", "a green field"),
    "snow": ("a snowy landscape", "snow", "a snowy field"),
    "desert": ("a desert", "sand dunes"),
    "beach": ("a beach", "a sandy beach", "the seaside"),
    "sea": ("the sea", "the ocean", "the open sea"),
}
_AT_TIME = {
    "day": ("on a sunny day", "during the day", "under a blue sky", "in daylight", "on a clear day"),
    "sunset": ("at sunset", "during sunset", "at dusk", "in the evening", "under an orange sky"),
    "night": ("at night", "at night", "at midnight", "in the night", "under a night sky"),
    "cloudy": ("on a cloudy day", "under a cloudy sky", "under a grey sky", "on an overcast day"),
}
_TIME_TAGS = {
    "day": ("day", "sunny day", "blue sky", "daylight"),
    "sunset": ("sunset", "dusk", "evening", "orange sky"),
    "night": ("night", "night sky", "midnight"),
    "cloudy": ("cloudy", "overcast", "grey sky", "cloudy day"),
}
_BACKDROP = {
    "mountains": ("mountains", "snowy mountains", "tall mountains"),
    "hills": ("hills", "rolling hills"),
    "forest": ("a forest", "a pine forest", "woods"),
}
_POSE = {
    "standing": ("standing", "standing still"),
    "waving": ("waving", "waving a hand", "waving hello"),
    "arms up": ("with arms up", "with both arms up", "with arms raised", "cheering"),
    "arms out": ("with arms outstretched", "with arms spread wide", "with arms out"),
    "walking": ("walking", "taking a walk"),
    "running": ("running", "running fast"),
    "sitting": ("sitting", "sitting down", "sitting on the ground"),
}
_TREE = {
    "pine": ("pine tree", "fir tree", "pine"),
    "leafy": ("tree", "green tree", "leafy tree"),
    "palm": ("palm tree", "palm"),
    "autumn": ("autumn tree", "orange tree"),
    "cherry": ("cherry tree", "pink tree", "cherry blossom tree"),
}
_STYLES = (
    "a picture of ",
    "an illustration of ",
    "a drawing of ",
    "a painting of ",
    "a storybook illustration of ",
)
_PRAISE = (", storybook illustration", ", beautiful", ", best quality", ", highly detailed", ", colourful",
           ", children's book illustration")  # fmt: skip


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def _bare(phrase: str) -> str:
    """`phrase` without the article before it."""
    first, _, rest = phrase.partition(" ")
    return rest if first in ("a", "an", "the") and rest else phrase


class _Teller:
    """Words one scene, noting all that it asks for."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.asked: list[Asked] = []

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one(self, *options: str) -> str:
        return options[int(self.rng.integers(len(options)))]

    def ask(self, kind: str, attribute: str, value: str | None) -> None:
        self.asked.append(Asked(kind, attribute, value))

    def place(self, place: str, share: float = 0.25) -> str:
        if not self.chance(share):
            return ""
        return self.one(" in the middle", " in the center") if place == "middle" else f" on the {place}"

    def person(self) -> str:
        person = self.scene.person
        assert person is not None
        self.ask("object", "person", None)
        noun = person.kind if self.chance(0.78) else "person"
        if person.kind in ("boy", "girl") and self.chance(0.15):
            noun = self.one("child", f"little {person.kind}")
        words = _article(noun)
        if self.chance(0.3):
            hair = "blond" if person.hair == "blonde" and self.chance(0.3) else person.hair
            words += f" with {hair} hair"
        if self.chance(0.86):
            self.ask("shirt", "shirt", person.shirt)
            garment = "dress" if person.kind in ("woman", "girl") and self.chance(0.7) else "shirt"
            words += self.one(" in ", " wearing ") + _article(f"{person.shirt} {garment}")
        if person.pose in _POSE and self.chance(0.86):
            self.ask("pose", "pose", person.pose)
            words += " " + self.one(*_POSE[person.pose])
        return words + self.place(person.place)

    def coloured(self, attribute: str, colour: str, *nouns: str, share: float = 0.88) -> str:
        self.ask("object", attribute, None)
        if not self.chance(share):
            return self.one(*nouns)
        self.ask("colour", attribute, colour)
        if attribute == "cat":
            colour = {"orange": self.one("orange", "ginger"), "grey": self.one("grey", "gray")}.get(
                colour, colour
            )
        return f"{colour} {self.one(*nouns)}"

    def boat(self) -> str:
        boat = self.scene.boat
        assert boat is not None
        if self.chance(0.3):
            self.ask("object", "boat", None)
            self.ask("colour", "boat", boat.colour)
            words = f"a {self.one('boat', 'sailboat')} with {boat.colour} sails"
        else:
            words = _article(self.coloured("boat", boat.colour, "boat", "sailboat"))
        return words + self.place(boat.place)

    def trees(self) -> str:
        trees = self.scene.trees
        assert trees is not None
        self.ask("object", "tree", trees.kind)
        noun = self.one(*_TREE[trees.kind])
        if trees.count > 1:
            return self.one("two ", "some ", "") + noun + "s" + self.place(trees.place)
        return _article(noun) + self.place(trees.place)

    def things(self) -> list[str]:
        """Phrases for what stands on the ground."""
        scene, said = self.scene, []
        if scene.person:
            said.append(self.person())
        if scene.cat and self.chance(0.95):
            cat = self.coloured("cat", scene.cat.colour, "cat", "cat", "kitten")
            said.append(_article(cat) + self.place(scene.cat.place))
        if scene.house and self.chance(0.95):
            house = self.coloured("house", scene.house.colour, "house", "house", "cottage", "home")
            said.append(_article(house) + self.place(scene.house.place))
        if scene.trees and self.chance(0.9):
            said.append(self.trees())
        if scene.boat and self.chance(0.95):
            said.append(self.boat())
        if scene.flowers and self.chance(0.93):
            said.append(self.coloured("flowers", scene.flowers, "flowers"))
        return said

    def above(self) -> list[str]:
        """Phrases for what is in the sky."""
        scene, said = self.scene, []
        if scene.balloon and self.chance(0.95):
            said.append(
                _article(self.coloured("balloon", scene.balloon.colour, "balloon", "hot air balloon"))
            )
        if scene.birds and self.chance(0.8):
            said.append(self.one("birds", "birds in the sky", "flying birds"))
        if scene.orb and self.chance(0.3):
            said.append(
                self.one("the moon", "a full moon")
                if scene.time == "night"
                else self.one("the sun", "a bright sun")
            )
        if scene.stars and self.chance(0.3):
            said.append(self.one("stars", "many stars", "a starry sky"))
        if scene.clouds and scene.time != "cloudy" and self.chance(0.3):
            said.append("clouds")
        return said

    def surroundings(self) -> tuple[str | None, str | None]:
        """Whether ground and time are told: their values or None."""
        ground, time = (value if self.chance(0.9) else None for value in (self.scene.ground, self.scene.time))
        if ground:
            self.ask("ground", "ground", ground)
        if time:
            self.ask("time", "time", time)
        return ground, time

    def backdrop(self) -> str | None:
        scene = self.scene
        return self.one(*_BACKDROP[scene.backdrop]) if scene.backdrop and self.chance(0.85) else None

    def shuffled(self, phrases: list[str]) -> list[str]:
        return [phrases[i] for i in self.rng.permutation(len(phrases))]

    def sentence(self) -> str:
        said, above, (ground, time), backdrop = (
            self.things(),
            self.above(),
            self.surroundings(),
            self.backdrop(),
        )
        if len(said) > 1 and self.chance(0.25):
            said = self.shuffled(said)
        parts = []
        if said:
            words = said[0]
            for number, phrase in enumerate(said[1:]):
                joint = (
                    (" and ", " next to ", " near ", " with ", " beside ") if number == 0 else (" and ", ", ")
                )
                words += self.one(*joint) + phrase
            if ground:
                parts.append(" " + self.one(*_ON_GROUND[ground]))
        else:
            words = self.one(*_ALONE[ground]) if ground else self.one("a landscape", "scenery")
        if backdrop:
            parts.append(
                self.one(
                    f" with {backdrop} in the background", f" in front of {backdrop}", f", {backdrop} behind"
                )
            )
        if time:
            parts.append(" " + self.one(*_AT_TIME[time]))
        if above:
            parts.append(self.one(" with ", ", ") + " and ".join(above))
        if self.chance(0.25):
            parts = self.shuffled(parts)
        words += "".join(parts)
        return (self.one(*_STYLES) if self.chance(0.35) else "") + words

    def tags(self) -> str:
        said, above, (ground, time), backdrop = (
            self.things(),
            self.above(),
            self.surroundings(),
            self.backdrop(),
        )
        around = above + ([backdrop] if backdrop else [])
        if ground:
            around.append(self.one(*_GROUND_TAGS[ground]))
        if time:
            around.append(self.one(*_TIME_TAGS[time]))
        phrases = self.shuffled(said + around) if self.chance(0.3) else said + self.shuffled(around)
        return ", ".join(_bare(phrase) for phrase in phrases) or "landscape"


def describe(scene: Scene, rng: np.random.Generator) -> Caption:
    """One wording of `scene`, with what it asks for."""
    teller = _Teller(scene, rng)
    text = teller.tags() if teller.chance(0.3) else teller.sentence()
    if teller.chance(0.12):
        text += teller.one(*_PRAISE)
    return Caption(text, tuple(teller.asked))
