"""Runs as films: every step recorded, so that a run can be looked into, branched and gone on with."""
