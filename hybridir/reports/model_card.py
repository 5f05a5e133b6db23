"""The model card: `README.md` beside the weights, with metadata for the Hugging Face hub.

It is made from the files of a finished run. About the metadata: https://huggingface.co/docs/hub/model-cards.
"""

import json
import os
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hybridir.batches.sampling import KINDS
from hybridir.data.formats import BENCHMARKS
from hybridir.data.records import LICENSED
from hybridir.data.sources import license_of
from hybridir.evaluation.bias_summary import BIAS, bias_numbers
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS
from hybridir.model.folder import read_layout
from hybridir.reports.tables import left_out
from hybridir.runtime.durable import replace_text
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.tables import Grid, fenced, inline, paragraph, plain

_COUNTS = ("n_queries", "excluded", "n_clusters")
_OF_ONE_PLACE = ("tracking", "output", "cache", "resume", "dry_run")
"""Sections of a config that influence no result; a public page should not show them."""


def write_model_card(output: Path) -> None:
    """Writes `model/README.md` in the output folder of a finished run.

    It is made from `config.yaml`, `results.json` and `data_card.json` there, and from the prompts and lengths of the
    model. Measures that are not in `results.json` are left out.
    """
    config = read_yaml(output / "config.yaml")
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    data = json.loads((output / "data_card.json").read_text(encoding="utf-8"))
    trained = list(config["sampling"]["languages"] or data["languages"])
    metadata = _metadata(output.name, config, results, trained)
    sections = {
        plain(output.name): _about(config, results, trained),
        "Use": _use(output),
        "Data": _data(config, data),
        "Results": _results(results, trained),
        "Language bias": _bias(results),
        "How it was made": _making(config, results),
    }
    page = "\n".join(f"{'##' if n else '#'} {title}\n\n{text}" for n, (title, text) in enumerate(sections.items()))
    card = f"---\n{metadata.to_yaml()}\n---\n\n{without_secrets(page)}"
    replace_text(output / "model" / "README.md", card)


def method_name(sampling: dict[str, Any]) -> str:
    """The method of arXiv 2408.10536 or LAReQA (2004.05484) with these weights; "" if there is none."""
    match sorted(_weights(sampling)):
        case ["cross", "mono"]:
            return f"hybrid, alpha = {sampling['mono']:g}"
        case ["mono"]:
            return "En-En" if sampling["languages"] == ["en"] else "X-X-mono"
        case ["mixed"]:
            return "X-X"
        case ["cross"]:
            return "X-Y"
        case ["both"]:
            return "sum"
    return ""


def mix(sampling: dict[str, Any]) -> str:
    """The method and its weights in words."""
    kinds = ", ".join(f"{kind} {weight:g}" for kind, weight in _weights(sampling).items())
    return f"{method_name(sampling) or 'without a name'} (batches: {kinds})"


def loss_and_noise(config: dict[str, Any]) -> dict[str, str]:
    """The terms of the loss with their weights, and the noise in queries, if there are any."""
    terms = {name: term["weight"] for name, term in config.get("loss", {}).items() if _weighs(term)}
    found = {"Loss": ", ".join(f"{name} {weight:g}" for name, weight in terms.items())} if terms else {}
    noise = config["sampling"].get("noise") or {}
    if noise.get("probability"):
        found["Noise"] = f"in {noise['probability']:.0%} of the queries: {', '.join(noise['kinds'])}"
    return found


def _weighs(term: Any) -> bool:
    return isinstance(term, dict) and bool(term.get("weight"))


def base_model(encoder: dict[str, Any]) -> str:
    """The model that a run began with, in words."""
    return (
        encoder["name"] or f"none, from random weights (layers: {encoder['layers']}, width: {encoder['hidden_size']})"
    )


def sources(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources of training and validation pairs, with the fields of `hybridir.data.config.Source`."""
    data = config["data"]
    return [*(data["sources"] or [data]), *filter(None, [data["validation"]])]


def _weights(sampling: dict[str, Any]) -> dict[str, float]:
    """The kinds of batches that are drawn, with their weights; `mono_first` has a number of steps or tokens instead."""
    return {kind: sampling[kind] for kind in (*KINDS, "mono_first", "mono_first_tokens") if sampling.get(kind)}


def _metadata(name: str, config: dict[str, Any], results: dict[str, Any], trained: list[str]) -> ModelCardData:
    """The metadata for the hub: language codes without subtags, which the hub does not know, and no `license`, which is
    the choice of whoever publishes the model."""
    base = config["encoder"]["name"]
    paths = [source["path"] for source in sources(config)]
    hub = "hf://datasets/"
    ids = [path.removeprefix(hub) for path in paths if path.startswith(hub)]
    benchmark = results["benchmark"]
    known = BENCHMARKS.get(benchmark)
    return ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "dense-retrieval", "multilingual", "hybridir"],
        language=list(dict.fromkeys(code.replace("_", "-").partition("-")[0] for code in trained)),
        base_model=base if _is_hub_id(base) else None,
        datasets=list(filter(_is_hub_id, ids)) or None,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="information-retrieval",
                task_name=f"{setting} retrieval",
                dataset_type=(known.hub_id if known else "") or benchmark,
                dataset_name=benchmark,
                dataset_config=setting,
                metric_type=measure,
                metric_value=value,
            )
            for setting in SETTINGS
            for measure, value in results[setting].items()
            if measure not in _COUNTS
        ],
    )


def _about(config: dict[str, Any], results: dict[str, Any], trained: list[str]) -> str:
    name = config["encoder"]["name"]
    base = (
        f"[{name}](https://huggingface.co/{name})"
        if _is_hub_id(name)
        else inline(name)
        if name
        else base_model(config["encoder"])
    )
    tested = [code for code in results["languages"] if code not in trained]
    lines = [
        *([paragraph(results["about"]), ""] if results.get("about") else []),
        "A dual encoder for retrieval within a language, across languages and from a pool of languages, trained by",
        "hybridir on batches as in [arXiv 2408.10536](https://arxiv.org/abs/2408.10536).",
        "",
        f"- Base model: {base}",
        f"- Mix: {mix(config['sampling'])}",
        *(f"- {title}: {text}" for title, text in loss_and_noise(config).items()),
        f"- Languages trained on: {plain(', '.join(trained))}",
        f"- Languages only tested: {plain(', '.join(tested)) or 'none'}",
    ]
    if (known := BENCHMARKS.get(results["benchmark"])) and known.license:
        lines.append(f"- Measured on: {results['benchmark']} (licence: {known.license})")
    if best := results.get("validation"):
        lines.append(f"- Weights: of step {best['step']}, with {best['metric']} {best['value']:.4f}")
    return "\n".join(lines) + "\n"


def _use(output: Path) -> str:
    layout = read_layout(str(output / "model"), None)
    prompts = " and ".join(f"`{side}` ({plain(repr(layout.prompts[side]))})" for side in layout.lengths)
    example = f"""from sentence_transformers import SentenceTransformer

model = SentenceTransformer({json.dumps(f"{output.name}/model")})  # this folder
queries = model.encode(["Which currency does Spain use?"], prompt_name="query")
passages = model.encode(["El euro es la moneda de España."], prompt_name="passage")
print(model.similarity(queries, passages))
"""
    return f"""{fenced(example, "python")}

Prompts: {prompts}. Trained on queries of up to {layout.lengths["query"]} tokens and passages of up to
{layout.lengths["passage"]}.
"""


def _data(config: dict[str, Any], data: dict[str, Any]) -> str:
    rows = [
        (
            source["name"] or source["path"] or source["format"],
            source["format"],
            source["license"] or license_of(source["format"]) or "not stated",
        )
        for source in sources(config)
    ]
    licences = "".join(f"\nLicence that rows name: {plain(one)}\n" for one in data.get("notes", {}).get(LICENSED, {}))
    parts = ", ".join(f"{n['pairs']} pairs in {n['groups']} groups ({part})" for part, n in data["parts"].items())
    return f"""{Grid("sources", ("source", "format", "licence"), rows).to_markdown()}
They hold {parts}, in {plain(", ".join(data["languages"]))}; batches are drawn from the languages trained on.
Fingerprint: {inline(data["fingerprint"])}
{licences}
The publisher of the model states its licence, which must respect those of the data and the base model.
"""


def _results(results: dict[str, Any], trained: list[str]) -> str:
    systems = _systems(results)
    main = {name: one for name, one in MEASURES.items() if one.main and "parallel" not in one.needs}
    in_settings = (found.get(setting, {}) for found in systems.values() for setting in SETTINGS)
    out, untold = left_out({name: of.get(name) for name in main} for of in in_settings)
    rows = [
        (setting, one.title, *(_cell(found, (setting, name), f".{one.digits}f") for found in systems.values()))
        for setting in SETTINGS
        for name, one in main.items()
        if name in results[setting] and name not in out
    ]
    table = Grid(f"{results['benchmark']}, mean over languages", ("setting", "measure", *systems), rows).to_markdown()
    languages = []
    for code, one in results["per_language"].items():
        cells = [
            _number(_find(one, (s, "mAP")), ".3f", _find(results, ("language_intervals", code, s, "mAP")))
            for s in SETTINGS
        ]
        languages.append((code if code in trained else f"{code} (only tested)", *cells))
    by_language = Grid("mAP by language of the query", ("language", *SETTINGS), languages).to_markdown()
    note = "In brackets: 95 % intervals over clusters of questions, for this one training run.\n"
    return f"{table}\n{by_language}\n{note}" + f"{untold}\n" * bool(untold)


def _bias(results: dict[str, Any]) -> str:
    systems = _systems(results)
    rows = [
        (
            f"{one.title} of parallel answers",
            *(_cell(of, ("multilingual", name), f".{one.digits}f") for of in systems.values()),
        )
        for name, one in MEASURES.items()
        if "parallel" in one.needs and name in results["multilingual"]
    ]
    numbers = [bias_numbers(one.get("bias", {})) for one in systems.values()]
    for key in numbers[0]:
        name, _, part = key.partition(" ")
        title = f"{BIAS[name].title}, {part}" if part else BIAS[name].title
        rows.append((f"{title} ({BIAS[name].best})", *(_number(one.get(key), ".3f", None) for one in numbers)))
    return Grid(results["benchmark"], ("measure", *systems), rows).to_markdown()


def _making(config: dict[str, Any], results: dict[str, Any]) -> str:
    shown = {name: section for name, section in config.items() if name not in _OF_ONE_PLACE}
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"""`python jobs/train.py --config config.yaml --output FOLDER`, with this `config.yaml`:

{fenced(text, "yaml")}

Versions: {plain(versions)}
"""


def _systems(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"this model": results} | results["systems"]


def _cell(results: dict[str, Any], path: tuple[str, ...], digits: str) -> str:
    return _number(_find(results, path), digits, _find(results, ("intervals", *path, "interval")))


def _number(value: float | None, digits: str, interval: list[float] | None) -> str:
    if value is None:
        return ""
    return f"{value:{digits}}" + (f" [{interval[0]:{digits}}, {interval[1]:{digits}}]" if interval else "")


def _find(tree: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of keys; None if there is none."""
    for key in path:
        tree = tree.get(key) if tree else None
    return tree


def _is_hub_id(name: str) -> bool:
    """Whether `name` is a hub id: neither a folder nor empty."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not os.path.isdir(name)
