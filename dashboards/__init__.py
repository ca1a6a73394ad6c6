"""Grafana dashboards as code, committed as JSON."""
