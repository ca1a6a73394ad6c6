"""Files: metadata in PostgreSQL, content on disk or in S3."""
