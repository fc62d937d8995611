"""What can be seen from outside: logs now, metrics later."""
