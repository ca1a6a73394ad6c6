"""What people and programs see over HTTP: the status page, the API, /metrics, the agent's own health."""
