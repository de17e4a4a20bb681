"""The version, in its one home; setup.py reads this file without importing."""

__version__ = "0.1.0"
