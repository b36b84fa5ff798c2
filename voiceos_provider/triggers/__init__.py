"""Triggers: the code that runs in the triggerer process, and nowhere else but for creating a trigger.

`voiceos` holds their classes, and `poll_stream` the polls that they share.
"""
