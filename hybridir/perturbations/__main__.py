"""Shows what noise does to a text: python -m hybridir.perturbations --language th --kind keyboard "TEXT"."""

import argparse
import sys

from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.perturbation import Severity, check_severity
from hybridir.runtime.random_numbers import uniform_numbers

_SHOWN = {"\u200b": "[ZWSP]", "\u200c": "[ZWNJ]", "\u00ad": "[SHY]"}


def visible(text: str) -> str:
    """A text in which characters without width are named."""
    return "".join(_SHOWN.get(c, c) for c in text)


def main(arguments: list[str]) -> None:
    """Prints a line for each kind and draw. `ValueError` for a kind that does not apply to the language."""
    parser = argparse.ArgumentParser(prog="python -m hybridir.perturbations", description="What noise does to a text.")
    parser.add_argument("text")
    parser.add_argument("--language", required=True, help="its language, such as de")
    parser.add_argument(
        "--kind", choices=PERTURBATIONS, metavar="KIND", help=f"{', '.join(PERTURBATIONS)}; omitted: all"
    )
    parser.add_argument(
        "--severity", default="one", help="share of the sites that are edited, 0 to 1; or one edit: one"
    )
    parser.add_argument("--draws", type=int, default=3, help="number of texts for each kind")
    given = parser.parse_args(arguments)
    severity = _severity(given.severity)
    kinds = [given.kind] if given.kind else [k for k, one in PERTURBATIONS.items() if one.applies(given.language)]
    for kind in kinds:
        one = PERTURBATIONS[kind]
        if not one.applies(given.language):
            raise ValueError(
                f"{kind} does not apply to {given.language}: it is for {', '.join(sorted(one.languages or ()))}"
            )
        print(f"{kind}: {one.about} (edited: {one.unit})")
        for draw in range(given.draws):
            new = one.apply(given.text, given.language, uniform_numbers(draw, 0, 0), severity)
            print(f"  {visible(new)}" + "  (unchanged)" * (new == given.text))


def _severity(text: str) -> Severity:
    if text == "one":
        return "one"
    try:
        severity = float(text)
    except ValueError:
        raise ValueError(f"--severity is {text}: it must be from 0 to 1, or one") from None
    check_severity(severity, "--severity")
    return severity


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
