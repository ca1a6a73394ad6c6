"""The host the agent runs on, or the slice of it that its cgroup leaves."""
