"""Buttons on the pages of our tasks."""
