"""A model of a site whose truth is known: its logs, and when its license really was synchronised.

`world.py` plays a site minute by minute and writes what its Licenses service would write; `wordings.py` makes up words
that no catalogue holds; `judge.py` compares what the product makes of the logs with the truth.
"""
