"""What services push and expose: taken in, kept, counted and passed on."""
