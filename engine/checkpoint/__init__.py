"""How far a target has a source: the form of the record and reading it."""
