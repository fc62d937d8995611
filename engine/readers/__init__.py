"""What is no server that serves replicas, made into a replication source on a unix socket: the engine has one way in."""
