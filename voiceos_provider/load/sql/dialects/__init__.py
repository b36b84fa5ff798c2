"""One class per SQL engine."""
