"""Ways to tell somebody: one file per kind, each blocking, each run in its channel's own threads."""
