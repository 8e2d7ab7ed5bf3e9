"""Exported programs (`.pt2`) from strangers: read by hand, part by part, and never by torch's own loader.

That one evaluates expressions as Python and unpickles what is in the archive. Here a zip of stored members is opened
(`archive`), its JSON has to fit a strict schema (`schema`, `expressions`), weights are bytes with checked sizes
(`tensors`), and the graph is written down anew with known operators only (`graph`).
"""
