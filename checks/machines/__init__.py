"""Fly.io machines: what runs, what sleeps on purpose, what fell over; never a request that wakes."""
