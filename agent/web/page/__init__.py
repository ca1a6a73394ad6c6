"""The status page: one document, rendered here, that works without a script and lives with one."""
