"""The running process: reads gaia.yaml, probes, judges, shows, serves."""
