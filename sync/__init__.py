"""What is true, and who said so: records, dots, merge, feed and the peer rules. Does no I/O; time is an argument."""
