"""Releases: what is in one, who vouches for it, and whether all of that is true."""
