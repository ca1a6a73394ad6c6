"""Users, API keys and tokens."""
