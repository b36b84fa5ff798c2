"""The one path from a client to a receipt, shared by operators, hook and command line."""
