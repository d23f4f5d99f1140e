"""Errors, files and locks, locations, processes and versions: what every package uses."""
