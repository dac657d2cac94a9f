"""Who may connect: allowlist, fingerprints, TLS 1.3 contexts and the handshake gate. Knows nothing of memories."""
