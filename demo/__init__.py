"""The whole job once, on the handwritten digits that come with scikit-learn: `python -m demo`."""
