"""First hour of a new user, measured; run by `make first-hour`."""
