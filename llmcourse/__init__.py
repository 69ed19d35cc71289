"""The companion package of *Large Language Models Explained*."""

__version__ = "0.1.0"
