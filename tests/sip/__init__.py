"""The language: its values, its torture messages, its properties."""
