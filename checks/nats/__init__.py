"""NATS and JetStream: the raw link, the monitoring endpoints, the signals and their judgement."""
