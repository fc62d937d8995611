"""Real servers, data and load to try the engine with: the `demo` command, tests, benchmarks."""
