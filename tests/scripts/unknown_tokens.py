"""The share of unknown tokens in the questions of XQuAD-R by language, plain and with every fifth letter another.

python tests/scripts/unknown_tokens.py MODEL XQUAD_R
"""

import sys

from hybridir.data.config import BenchmarkConfig
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.conditions import Condition, under
from hybridir.model.tokenizer import load_tokenizer


def main(model: str, path: str) -> None:
    """Prints a line for each language: tokens a question, and the share of unknown ones, without and with noise."""
    tokenizer = load_tokenizer(model)
    plain = read_benchmark(BenchmarkConfig(name="xquad-r", path=path))
    noisy = under(plain, Condition(perturbation="substitute", severity=0.2))
    for language in plain.languages:
        shown = [language]
        for of in (plain, noisy):
            texts = [query.text for query in of.queries if query.language == language]
            ids = [token for found in tokenizer(texts, add_special_tokens=False)["input_ids"] for token in found]
            unknown = sum(token == tokenizer.unk_token_id for token in ids)
            shown += [f"{len(ids) / len(texts):.1f} tokens", f"{unknown / len(ids):.1%} unknown"]
        print("  ".join(shown))


if __name__ == "__main__":
    main(*sys.argv[1:])
