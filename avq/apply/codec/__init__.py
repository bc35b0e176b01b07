"""Entropy coding of a tokenizer's codes, by arithmetic that is the same on every machine.

`order.py` says which codes are coded together and what is known around them by then, `network.py`
predicts them from it, `coder.py` turns them into bytes and back by `ranges.py`; `plain.py` does so
without prediction. `fitting.py` fits the networks to `training_codes.py`, `stored.py` keeps them
with the run, and `image_file.py` is the file of an image. `prior_codec.py` codes by a prior
instead, as `exact_transformer.py` computes it by `exact.py`.
"""
