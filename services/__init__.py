"""The instrumented services of the platform; they speak to the rest over the network only."""
