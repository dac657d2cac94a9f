"""Peers that are daemons of the older protocol, in both directions. Nothing outside needs this package to be there."""
