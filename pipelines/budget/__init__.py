"""Memory and time: what there is, what a run needs, and how it goes on where that does not fit."""
