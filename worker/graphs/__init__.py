"""Models that come with their graph: its clean description, and the module that runs it."""
