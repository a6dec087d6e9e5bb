"""Bytes that nobody meant to send."""
