"""The ways to one app, kept apart: each machine privately, the proxy, the public edge."""
