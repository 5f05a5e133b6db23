"""The streams of random numbers of a step: one for the plan, one for each view, so that no view changes another.

The numbers belong to published batches: a new stream takes the next one, and none is given to something else.
"""

PLAN, QUERY_NOISE, PASSAGE_TRANSLATION, QUERY_TRANSLATION, NOISY_QUERY = range(5)
