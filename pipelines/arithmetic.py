"""What makes sums come out alike wherever their numbers lie in memory.

MKL chooses kernels by the alignment of what it multiplies, and two of them round differently: the same
weights mapped from another file, or loaded anew, would paint a picture that differs in its last bits. Its
strict mode (oneMKL, "Conditional Numerical Reproducibility") ends that, and costs nothing measurable.
"""

from __future__ import annotations

from collections.abc import MutableMapping

ALIKE = {"MKL_CBWR": "AUTO,STRICT"}
"""Variables of the environment; read by MKL at its first product, so to be set before torch is used."""


def settle(environment: MutableMapping[str, str]) -> None:
    """Sets in `environment` what a person has not set."""
    for name, value in ALIKE.items():
        environment.setdefault(name, value)
