"""Netloupe."""
