"""How the embedded model is made: scenes drawn by the program, their captions, training and measuring.

Nothing here is needed to paint with the model; `python -m pipelines.starter.train` makes it anew.
"""
