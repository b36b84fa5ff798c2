"""Triggers, and the polls that they share: the code of the triggerer process. A worker only creates triggers.

The requests of a poll are in `polling`, which workers use, too.
"""
