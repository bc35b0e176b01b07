"""Frozen feature networks, read from a weight file given by path."""
