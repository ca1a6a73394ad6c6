"""Instrumentation for aiohttp services: health, metrics, traces, logs, and good manners."""
