"""Decoding and its gradient, next to the ways in which it is commonly done: times, growth and peak memory."""
