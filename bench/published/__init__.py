"""Models that others trained and published, as their packages ship them, through the running service."""
