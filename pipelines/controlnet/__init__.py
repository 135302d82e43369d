"""Control networks, the maps they follow, and what makes these maps."""
