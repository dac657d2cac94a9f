"""What a person runs: store, listeners, replication and the command line."""
