"""The platform on one machine: embedded PostgreSQL and NATS, services, agent, and who keeps them up."""
