"""What the deep checks say of servers that are really broken."""
