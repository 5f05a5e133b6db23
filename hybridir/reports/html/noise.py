"""A benchmark under noise, on the page of an evaluation: what each kind costs each system, and by language."""

from collections.abc import Mapping
from typing import Any

from hybridir.reports.html.conditions import MODELS_ONLY
from hybridir.reports.html.parts import NONE, SETTING_NAMES, Section, Sheet, note, number, numbers, table, with_interval
from hybridir.reports.html.plots import percent
from hybridir.runtime.tables import Grid


def under_noise(results: dict[str, Any]) -> Section | None:
    """RR@10 without and with noise by system, the shares that are lost, by language; and what systems keep."""
    found = results.get("noise")
    if not found:
        return None
    blocks = [table(_overall(found), grouped=True), table(_by_language(found))]
    if found["against"]:
        blocks.append(table(_against(found)))
    return Section(
        "noise",
        "Queries with noise",
        "The same benchmark with noise in its queries: all systems are asked the same texts, and passages stay as they "
        "are. Read the value under noise first: a system that has little can lose little.",
        [*blocks, numbers(_sheet(found)), note(*_told(found))],
    )


def _rows(found: Mapping[str, Any], language: bool) -> list[tuple[str, dict[str, Any]]]:
    return [(name, row) for name, of in found["systems"].items() for row in of if bool(row["language"]) == language]


def _overall(found: Mapping[str, Any]) -> Grid:
    rows = []
    cells = {cell["name"]: cell for cell in found["cells"]}
    for setting in SETTING_NAMES:
        for cell in cells:
            for name, row in _rows(found, False):
                if (row["setting"], row["cell"]) == (setting, cell):
                    tokens = cells[cell]["tokens_changed"][name]
                    rows.append(
                        (
                            SETTING_NAMES[setting],
                            f"{cell}: {name}",
                            number(row["noisy"]),
                            number(row["plain"]),
                            with_interval(row["drop"]["difference"], row["drop"]["interval"], "RR@10", sign=True),
                            _lost(row["relative"]),
                            percent(tokens) if tokens is not None else NONE,
                        )
                    )
    header = ("setting", "noise: system", "with noise", "plain", "drop", "share lost", "other tokens")
    return Grid("RR@10 with and without noise, with 95\u00a0% intervals of what is lost", header, rows)


def _lost(relative: Mapping[str, Any] | None) -> str:
    """The share that is lost, with its interval."""
    if relative is None:
        return "nothing to lose"
    if relative["value"] is None or relative["interval"] is None:
        return "not determined"
    low, high = relative["interval"]
    return f"{percent(relative['value'])} [{percent(low)}, {percent(high)}]"


def _by_language(found: Mapping[str, Any]) -> Grid:
    """The share that the first system loses within each language."""
    first = next(iter(found["systems"]))
    of = {
        (row["cell"], row["language"]): _short(row["relative"])
        for name, row in _rows(found, True)
        if name == first and row["setting"] == "monolingual"
    }
    languages = sorted({language for _, language in of})
    rows = [(cell["name"], *(of.get((cell["name"], x), NONE) for x in languages)) for cell in found["cells"]]
    title = f"Share of RR@10 lost within each language by {first}; {NONE} where the noise does not apply"
    return Grid(title, ("noise", *languages), rows)


def _short(relative: Mapping[str, Any] | None) -> str:
    return "·" if relative is None or relative["interval"] is None else percent(relative["value"])


def _against(found: Mapping[str, Any]) -> Grid:
    rows = [
        (
            f"{row['cell']}: {row['system']} - {row['baseline']}",
            *(
                with_interval(row[what]["difference"], row[what]["interval"], "RR@10", sign=True) if row[what] else NONE
                for what in ("noisy", "loss", "log_retention")
            ),
        )
        for row in found["against"]
        if row["setting"] == "monolingual"
    ]
    header = ("noise: systems", "RR@10 with noise", "RR@10 lost", "log of the share kept")
    return Grid("Differences of systems under noise within each language, paired by query", header, rows)


def _told(found: Mapping[str, Any]) -> list[str]:
    shares = [f"{cell['name']} changed {percent(cell['changed'])} of the queries" for cell in found["cells"]]
    out = {kind: cell["not_in"] for cell in found["cells"] if cell["not_in"] and (kind := cell["kind"] or cell["name"])}
    return [
        f"{'; '.join(shares)}. Means are over the languages that the noise applies to, and over its draws.",
        *(f"{kind} does not apply to {', '.join(languages)}." for kind, languages in out.items()),
        "Other tokens: the share of the queries whose tokens changed for the system; a tokenizer that ignores case or "
        "accents undoes noise. Nothing to lose (·): the plain value is below .05, or not clearly above three times "
        "chance.",
        "A system is more robust, and not only better, if it loses less and keeps a larger share.",
        MODELS_ONLY,
    ]


def _sheet(found: Mapping[str, Any]) -> Sheet:
    rows = [
        (
            *(name, row["cell"], row["setting"], row["language"], row["plain"], row["noisy"], row.get("worst")),
            (row["relative"] or {}).get("value"),
            *((row["relative"] or {}).get("interval") or (None, None)),
        )
        for language in (False, True)
        for name, row in _rows(found, language)
    ]
    header = ("system", "noise", "setting", "language", "plain", "noisy", "worst_of_draws", "lost", "low", "high")
    return Sheet("noise", header, rows)


WAYS = {"random": "random, once", "best_of_m": "random, worst of m", "attack": "attack"}


def attacked(results: dict[str, Any]) -> Section | None:
    """Success and RR@10 of an attack, and of as many random edits, by system."""
    found = results.get("attack")
    if not found:
        return None
    of_systems = found["systems"].items()
    rows = [
        (name, title, percent(of[way]["success"]), number(of[way]["RR@10"]), f"{of[way]['texts']:.0f}")
        for name, of in of_systems
        for way, title in WAYS.items()
    ]
    header = ("system", "edits", "beaten", "RR@10", "texts")
    grid = Grid("Queries edited until they fail, within each language", header, rows)
    examples = [
        (name, *(one[k] for k in ("language", "before", "after"))) for name, of in of_systems for one in of["examples"]
    ]
    shown = Grid("A beaten query of each language", ("system", "language", "before", "after"), examples)
    won = [f"{name} won {of['won']} of them, with RR@10 {number(of['plain'])}" for name, of in of_systems]
    search = [
        f"{name}: {what}, attack minus random worst of m, as a share of all queries: "
        f"{with_interval(one['difference'], one['interval'], 'RR@10', sign=True)}."
        for name, of in of_systems
        for key, what in (("success", "beaten"), ("RR@10", "RR@10 lost"))
        if (one := of["search"].get(key))
    ]
    told = (
        f"{'; '.join(won)}. Beaten: the share of the won queries with no right passage first any more. Texts: how many "
        "were embedded for each won query; m is that of the attack.",
        *search,
        *(
            ["The attack stops at a beaten query, random edits go on: RR@10 of the two is not comparable."]
            if found["stop"]
            else []
        ),
        "The attacker knows the judgements: this is an upper bound on the harm of so few edits. The same number of "
        "edits is not the same harm in two languages.",
    )
    edits = f"{found['edits']} edit{'s' * (found['edits'] != 1)}"
    return Section(
        "attack",
        "Attacked queries",
        f"{found['queries']} queries, each with {edits} of a letter that an attacker who sees the scores chooses.",
        [table(grid, grouped=True), *([table(shown, grouped=True)] if examples else []), note(*told)],
    )
