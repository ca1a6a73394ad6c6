"""When to worry and whom to call: rules, states, incidents, delivery."""
