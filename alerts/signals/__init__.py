"""One pure function per kind of signal: evidence and the time in, a Reading out."""
