"""What is sent over HTTP, as pydantic types."""
