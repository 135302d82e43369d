"""The gallery: every picture there is, found again, with what a person notes on it.

The files are the truth. What is here beside them is an index that may be deleted at any time.
"""
