"""Tables of a lake as the destination of an export: one commit per table, conversations last."""
