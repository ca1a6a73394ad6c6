"""Performance figures: each module prints what it measured beside what it compared with, in one run."""
