"""The streams of random numbers of a step: one for the plan, one for each view, so that no view changes another.

The numbers decide published batches: a new stream takes the next number, and no number is used for something else.
"""

PLAN, QUERY_NOISE, PASSAGE_TRANSLATION, QUERY_TRANSLATION, NOISY_QUERY = range(5)
