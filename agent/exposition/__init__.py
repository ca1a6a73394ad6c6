"""The numbers, for Prometheus: data in, text 0.0.4 or OpenMetrics 1.0 out, however large the table."""
