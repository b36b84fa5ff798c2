"""The one path from a client to a receipt, shared by operators, hook and command line.

- `run`: run_export: check the server, read, decode, write, publish; saves the checkpoint
- `counters`: what has been read so far; the part of a checkpoint that `load.checkpoint` keeps for a killed task
- `late_arrivals`: pending conversations of earlier intervals, found by the destination and requested by id
- `recordings`: export_recordings: read, then download audio; a path of its own, without rows
- `erasure`: erase_conversations: request each one, if that is set, then remove it from a target
- `gc_threshold`: fewer runs of Python's garbage collector while an export runs
"""
