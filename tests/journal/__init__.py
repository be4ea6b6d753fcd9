"""Tests; this package mirrors the one it is named after."""
