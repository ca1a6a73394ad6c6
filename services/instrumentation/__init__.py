"""Instrumentation for aiohttp services: health, metrics, traces, logs, and the manners of a good neighbour."""
