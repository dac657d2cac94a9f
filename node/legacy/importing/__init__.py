"""Moving in from the existing daemon, by its database or its JSON export; nothing else here needs this package."""
