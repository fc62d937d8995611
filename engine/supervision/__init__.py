"""Tasks, lines, their states and what follows an error."""
