"""The wire: non-blocking sockets, TLS over them, arrival times from the kernel."""
