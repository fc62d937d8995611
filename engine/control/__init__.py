"""The ways to drive the engine: the command line now, the API later."""
