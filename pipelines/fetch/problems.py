"""Why something cannot be fetched, in a sentence."""

from __future__ import annotations


class FetchProblem(ValueError):
    """Something cannot be fetched; `str()` is a sentence. wants_token: an access token would help."""

    def __init__(self, sentence: str, wants_token: bool = False):
        super().__init__(sentence)
        self.wants_token = wants_token
