"""Files in object storage or on local disk."""
