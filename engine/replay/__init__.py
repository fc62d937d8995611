"""From the spool to the target: limiter, delivery, the two phases."""
