"""What natural-gradient steps (`adtn.natural`) come to, for whoever only plans. No torch here."""

MOST_NATURAL_NUMBERS = 8192
"""Trained numbers, gates and others together."""
OBSERVED = 0.25
"""Of the samples, those that the curvature is estimated from: a sample takes several times what its gradient does."""
