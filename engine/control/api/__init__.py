"""The DCS v2 migration API over HTTP, and what is ours beside it."""
