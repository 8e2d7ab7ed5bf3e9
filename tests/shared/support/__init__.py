"""What several areas of the suite share: a running stack, a user's model, calls of the API."""
