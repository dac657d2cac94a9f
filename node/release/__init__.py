"""What a release consists of, and the proof that it is what it says."""
