"""What can be seen: targets, probes and what they find."""
