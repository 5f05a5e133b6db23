"""The head of a page: what was trained on what and measured on what, and the verdict."""

from collections.abc import Sequence
from typing import Any

from hybridir.reports.html.parts import Block, bullets, coded, note, number, terms
from hybridir.reports.model_card import base_model, loss_and_noise, mix, sources
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.words import listed


def head(results: dict[str, Any], verdicts: Sequence[str], notes: Sequence[str] = ()) -> list[Block]:
    """`results["about"]`, the verdict, and for a training run its data, model and mix."""
    blocks = [note(without_secrets(one), style="about") for one in [results.get("about")] if one]
    blocks += [note(one, style="verdict-line") for one in verdicts if one]
    config = results.get("provenance", {}).get("config", {})
    if "training" in results and {"data", "encoder", "sampling", "train"} <= config.keys():
        blocks.append(terms(_training(results, config), told=True, style="facts"))
    return [*blocks, bullets([without_secrets(one) for one in notes])]


def _training(results: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """Data, model, mix, loss and steps of a training run, from its configuration."""
    trained, chosen = results["training"], results.get("validation", {})
    names = [one["name"] or one["path"] or f"embedded {one['format']}" for one in sources(config)]
    languages = config["sampling"]["languages"] or config["data"].get("languages") or []
    ends = {"patience": ", stopped early"}.get(trained["stopped"], "")
    tokens = f" ({trained['tokens']:,} tokens)" if "tokens" in trained else ""
    best = f"; weights of step {chosen['step']:,}, with {chosen['metric']} {number(chosen['value'])}" if chosen else ""
    facts = {
        "Data": f"{listed(names)}{f', in {listed(list(map(coded, languages)))}' if languages else ''}",
        "Model": base_model(config["encoder"]),
        "Mix": mix(config["sampling"]),
        **loss_and_noise(config),
        "Training": f"{trained['step']:,} steps of {config['train']['batch_size']} pairs{tokens}{ends}{best}",
    }
    return {name: without_secrets(text) for name, text in facts.items()}
