"""The routes: each parses, calls one function and returns."""
