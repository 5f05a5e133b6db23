"""Mr. TyDi's English training data (Zhang et al. 2021, arXiv 2108.08787), which has the fields of Tevatron."""

from hybridir.data.formats.tevatron import FIELDS
from hybridir.data.sets.published import Published

ABOUT = Published(
    license="Apache-2.0",
    page="https://huggingface.co/datasets/castorini/mr-tydi",
    fields=FIELDS,
    hub="castorini/mr-tydi",
    files="mrtydi-v1.1-english/{split}.jsonl.gz",
)
