"""PostgreSQL: the raw knock, the held session, the signals and their judgement."""
