"""The one door to the platform."""
