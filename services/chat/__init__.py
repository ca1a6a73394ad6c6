"""Rooms, messages, and an assistant that answers."""
