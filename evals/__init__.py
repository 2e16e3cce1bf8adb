"""Measures the whole from outside, through the official SDK."""
