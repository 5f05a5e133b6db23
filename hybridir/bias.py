"""Language bias: does the language of a passage move its rank?"""

import numpy as np


def rank_distance(ranks: np.ndarray) -> float:
    """Highest minus lowest rank among the parallel answers of one query in the pooled ranking (arXiv 2408.10536, 4.3).

    From R - 1 (all answers side by side, no bias) to the size of the pool; lower is better. It sees the spread only: a
    bad encoder can have a small one. A random ranking of N passages has (N + 1)(R - 1) / (R + 1) on average.
    """
    return float(np.max(ranks) - np.min(ranks))
