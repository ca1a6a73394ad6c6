"""gaia.yaml: read with positions, checked as a whole, and resolved for one environment."""
