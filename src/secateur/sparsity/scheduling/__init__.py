"""Schedules, a file for each family."""
