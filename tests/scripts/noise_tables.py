"""Makes the tables of `hybridir/perturbations/tables` anew: python tests/scripts/noise_tables.py SOURCES [OUTPUT]

SOURCES is a folder with the sources below, each unpacked there; nothing is downloaded. The tables are committed, so
this is needed only to change them.

| folder | source | licence |
| --- | --- | --- |
| xkb | xkeyboard-config 2.35 (Debian's xkb-data: usr/share/X11/xkb) | MIT |
| keysymdef.h | xorgproto (Debian's x11proto-dev) | MIT |
| cldr | CLDR 48.2 (npm's cldr-misc-full) | Unicode-3.0 |
| unicode | Unihan 15.0 (Debian's unicode-data: usr/share/unicode) | Unicode-3.0 |
| confusable_homoglyphs | 3.3.1 (PyPI), made of Unicode's confusables.txt | MIT, Unicode-3.0 |
| opencc_purepy | 1.5.0 (PyPI): the dictionary STCharacters of OpenCC | MIT, Apache-2.0 |
| anyascii | 0.3.3 (PyPI) | ISC |
| stopwordsiso | 0.7.1 (PyPI) | MIT |
| budoux | 0.10.1 (PyPI): models ja_word, zh-hans, th | Apache-2.0 |
"""

import bz2
import json
import re
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

OUTPUT = Path(__file__).parents[2] / "hybridir/perturbations/tables"
LANGUAGES = [
    *("am", "ar", "bn", "de", "el", "en", "es", "fa", "fi", "fr", "hi", "id", "ja", "km", "ko", "ru", "sw", "te", "th"),
    *("tr", "vi", "yo", "zh"),
]
LAYOUTS = {
    "ar": "ara(basic)", "bn": "in(ben_inscript)", "de": "de(basic)", "el": "gr(bare)", "en": "us(basic)",
    "es": "es(basic)", "fa": "ir(pes_part_basic)", "fi": "fi(classic)", "fr": "fr(basic)", "hi": "in(deva)",
    "id": "us(basic)", "km": "kh(basic)", "ru": "ru(winkeys)", "sw": "us(basic)", "te": "in(tel)", "th": "th(basic)",
    "tr": "tr(basic)", "vi": "us(basic)", "yo": "us(basic)",
}  # fmt: skip
"""Layout by language; Vietnamese and Yoruba marks are typed by further keys, so only plain letters are on these."""
KOREAN = ("ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔ", "ㅁㄴㅇㄹㅎㅗㅓㅏㅣ", "ㅋㅌㅊㅍㅠㅜㅡ"), ("ㅃㅉㄸㄲㅆ   ㅒㅖ", "", "")
"""The 26 keys of the two-set layout (KS X 5002), plain and with shift, by row."""
OFFSETS = {"E": 0, "D": 0.5, "C": 0.75, "B": 1.25}
"""Where the rows of a keyboard begin, in widths of a key."""
REACH = 1.2
"""Keys at a smaller distance are neighbours."""
NOT_LIKE = set()
"""Pairs of characters with the same corners and radical that no reader would take for each other."""


def keysyms(header: Path) -> dict[str, str]:
    """Characters by the name of a key symbol; the header gives the code point in a comment."""
    lines = header.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"#define XK_(\w+)\s+0x\w+\s+/\*[(<]?\s*U\+(\w{4,6})", line) for line in lines)
    return {match[1]: chr(int(match[2], 16)) for match in found if match}


def layout(folder: Path, name: str, symbols: dict[str, str]) -> dict[str, list[str]]:
    """What the keys give, plain and with shift, by the key's name: `include` is resolved in its order."""
    file, section = re.fullmatch(r"(\w+)(?:\(([\w-]+)\))?", name).groups()  # type: ignore[union-attr]
    text = re.sub(r"//.*", "", (folder / "symbols" / file).read_text(encoding="utf-8"))
    blocks = re.findall(r'((?:\w+\s+)*)xkb_symbols\s+"([\w-]+)"\s*\{(.*?)\n\s*\};', text, re.S)
    chosen = [body for flags, of, body in blocks if (of == section if section else "default" in flags)]
    keys: dict[str, list[str]] = {}
    for match in re.finditer(r'include\s+"([^"]+)"|key\s*<(\w+)>\s*\{(.*?)\}\s*;', chosen[0], re.S):
        if match[1]:
            for part in re.split(r"[+|]", match[1]):
                if not re.match(
                    r"(level|kpdl|eurosign|nbsp|rupeesign|capslock|keypad|srvr|altwin|digits|ir\(.*keypad)", part
                ):
                    keys |= layout(folder, part, symbols)
        elif levels := re.findall(r"\[([^\]]*)\]", re.sub(r"\w+\[Group\d\]", "", match[3])):
            keys[match[2]] = [character(one.strip(), symbols) for one in levels[-1].split(",")][:2]
    return keys


def character(symbol: str, symbols: dict[str, str]) -> str:
    if match := re.fullmatch(r"(?:U|0x100|0x0*100)([0-9A-Fa-f]{4,6})", symbol):
        return chr(int(match[1], 16))
    if len(symbol) == 1:
        return symbol
    return symbols.get(symbol, "")


def neighbours(keys: dict[str, list[str]]) -> dict[str, str]:
    """The neighbouring characters of each character, at the same shift level and of the same kind (letter or mark)."""
    places = {
        (name, level): (int(name[2:]) + OFFSETS[name[1]], "EDCB".index(name[1]), symbol)
        for name, levels in keys.items()
        if re.fullmatch(r"A[EDCB]\d\d", name)
        for level, symbol in enumerate(levels)
    }
    near: dict[str, set[str]] = defaultdict(set)
    for (_, level), (x, y, symbol) in places.items():
        for (_, other), (u, v, candidate) in places.items():
            close = (x - u) ** 2 + (y - v) ** 2 < REACH**2
            if level == other and symbol != candidate and close and kind(symbol) and kind(symbol) == kind(candidate):
                near[symbol].add(candidate)
    return {symbol: "".join(sorted(near[symbol])) for symbol in sorted(near)}


def kind(symbol: str) -> str:
    """L for a letter, M for a mark, "" for anything else."""
    found = {unicodedata.category(one)[0] for one in symbol}
    return found.pop() if len(symbol) == 1 and found <= {"L", "M"} else ""


def korean() -> dict[str, list[str]]:
    plain, shifted = KOREAN
    return {
        f"A{row}{n + 1:02}": [one, above if (above := more[n : n + 1]).strip() else ""]
        for row, ones, more in zip("DCB", plain, shifted, strict=True)
        for n, one in enumerate(ones)
    }


def exemplars(folder: Path, language: str) -> str:
    """The letters of a language: lower case, without marks, strings of several letters and private use."""
    data = json.loads((folder / f"package/main/{language}/characters.json").read_text(encoding="utf-8"))
    text = data["main"][language]["characters"]["exemplarCharacters"].strip("[]")
    text = re.sub(r"\{[^}]*\}", "", text)
    text = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), text)
    text = re.sub(r"(.)-(.)", lambda match: "".join(map(chr, range(ord(match[1]), ord(match[2]) + 1))), text)
    return "".join(sorted({one for one in text if unicodedata.category(one)[0] == "L"}))


def unihan(folder: Path, file: str, field: str) -> dict[str, str]:
    found = {}
    with bz2.open(folder / f"Unihan_{file}.txt.bz2", "rt", encoding="utf-8") as lines:
        for line in lines:
            parts = line.rstrip("\n").split("\t")
            if len(parts) == 3 and parts[1] == field:
                found[chr(int(parts[0][2:], 16))] = parts[2]
    return found


def groups(of: dict[str, str], least: int = 2) -> list[str]:
    """The characters that share a value, joined; in the order of their code points."""
    found: dict[str, str] = defaultdict(str)
    for one in sorted(of):
        found[of[one]] += one
    return sorted(group for group in found.values() if len(group) >= least)


def chinese(sources: Path) -> dict[str, object]:
    """Common characters: homophones, likenesses and variants, for zh and ja, and readings without tones."""
    unicode = sources / "unicode"
    traditional = {}
    for line in (sources / "opencc_purepy/dicts/STCharacters.txt").read_text(encoding="utf-8").splitlines():
        simple, *others = line.split()
        if others and others[0] != simple and len(simple) == 1 and ord(simple) < 0xA000 and ord(others[0]) < 0xA000:
            traditional[simple] = others[0]
    level = {c: int(v.split(":")[1]) for c, v in unihan(unicode, "OtherMappings", "kTGH").items()}
    simplified = {c for c, place in level.items() if place <= 3500}
    common = simplified | {traditional[c] for c in simplified if c in traditional}
    joyo = set(unihan(unicode, "OtherMappings", "kJoyoKanji"))
    pinyin = {c: v.split()[0] for c, v in unihan(unicode, "Readings", "kMandarin").items()}
    on = {c: v.split()[0].lower() for c, v in unihan(unicode, "Readings", "kJapaneseOn").items()}
    corners = unihan(unicode, "DictionaryLikeData", "kFourCornerCode")
    radical = {c: v.split()[0].split(".")[0].strip("'") for c, v in unihan(unicode, "IRGSources", "kRSUnicode").items()}
    strokes = {c: int(v.split()[0]) for c, v in unihan(unicode, "IRGSources", "kTotalStrokes").items()}

    def shapes(chosen: set[str]) -> dict[str, str]:
        same = groups({c: f"{corners[c].split()[0]} {radical[c]}" for c in chosen if c in corners and c in radical})
        like = {
            one: "".join(
                c for c in group
                if c != one and abs(strokes[c] - strokes[one]) <= 2 and frozenset((c, one)) not in NOT_LIKE
                and traditional.get(c) != one and traditional.get(one) != c
            )
            for group in same for one in group
        }  # fmt: skip
        return {one: others for one, others in sorted(like.items()) if others}

    written = simplified, common - simplified | {c for c in simplified if c not in traditional}
    return {
        "zh_homophones": sorted(
            {group for part in written for group in groups({c: pinyin[c] for c in part if c in pinyin})}
        ),
        "ja_homophones": groups({c: on[c] for c in joyo if c in on}),
        "zh_shapes": shapes(common),
        "ja_shapes": shapes(joyo),
        "traditional": dict(sorted((c, t) for c, t in traditional.items() if c in level)),
        "zh_romanised": {c: plain(pinyin[c]) for c in sorted(common | set(level)) if c in pinyin},
        "ja_romanised": {c: on[c] for c in sorted(joyo) if c in on},
    }


def plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def homoglyphs(sources: Path, letters: str) -> dict[str, str]:
    """Letters of another of the three scripts that look the same; same case."""

    def script(c: str) -> str:
        name = unicodedata.name(c, "").split()
        return name[0] if name and name[0] in ("LATIN", "GREEK", "CYRILLIC") else ""

    table = json.loads((sources / "confusable_homoglyphs/confusables.json").read_text(encoding="utf-8"))
    whole = {c for c in letters + letters.upper() if len(c) == 1 and script(c)}
    found: dict[str, str] = {}
    for c in sorted(whole):
        others = {o["c"] for o in table.get(c, ()) if len(o["c"]) == 1 and script(o["c"])}
        others |= {
            p["c"] for o in table.get(c, ()) for p in table.get(o["c"], ()) if len(p["c"]) == 1 and script(p["c"])
        }
        same = [
            o for o in sorted(others) if script(o) != script(c) and unicodedata.category(o) == unicodedata.category(c)
        ]
        if same := [o for o in same if o in whole]:
            found[c] = "".join(same)
    return found


def romanised(sources: Path, letters: str) -> dict[str, str]:
    sys.path.insert(0, str(sources))
    from anyascii import anyascii

    blocks = [(0x0900, 0x097F), (0x0980, 0x09FF), (0x0C00, 0x0C7F), (0x0E00, 0x0E7F), (0x0600, 0x06FF),
              (0x1780, 0x17FF), (0x1200, 0x137F), (0x3040, 0x30FF), (0x0370, 0x03FF), (0x0400, 0x045F)]  # fmt: skip
    wanted = {chr(n) for first, last in blocks for n in range(first, last + 1)} | {
        c for c in letters if ord(c) < 0x3000
    }
    kept = {
        c for c in wanted if unicodedata.category(c)[0] in "LM" and ord(c) > 0x36F and unicodedata.category(c) != "Cn"
    }
    return {c: anyascii(c) for c in sorted(kept) if not anyascii(c) or anyascii(c).isascii()}


def stop_words(sources: Path) -> dict[str, str]:
    table = json.loads((sources / "stopwordsiso/stopwords-iso.json").read_text(encoding="utf-8"))
    no_spaces = {"th", "zh", "ja", "km"}
    return {
        x: " ".join(sorted(w for w in table[x] if w.isalpha() or "'" in w))
        for x in LANGUAGES
        if x in table and x not in no_spaces
    }


def write(name: str, table: object, output: Path) -> None:
    text = json.dumps(table, ensure_ascii=False, indent=0, sort_keys=True)
    (output / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {len(text):,} characters")


def main(sources: Path, output: Path) -> None:
    symbols = keysyms(sources / "keysymdef.h")
    keyboards = {x: neighbours(layout(sources / "xkb", name, symbols)) for x, name in LAYOUTS.items()}
    write("keyboards", keyboards | {"ko": neighbours(korean())}, output)
    alphabets = {x: exemplars(sources / "cldr", x) for x in LANGUAGES if x != "ko"}
    write("alphabets", alphabets, output)
    letters = "".join(alphabets[x] for x in LANGUAGES if x not in ("ko", "zh", "ja"))
    write("chinese", chinese(sources), output)
    write("homoglyphs", homoglyphs(sources, letters), output)
    write("romanised", romanised(sources, letters), output)
    write("stop_words", stop_words(sources), output)
    models = {"ja": "ja_word", "zh": "zh-hans", "th": "th"}
    found = {
        x: json.loads((sources / f"budoux/models/{m}.json").read_text(encoding="utf-8")) for x, m in models.items()
    }
    (output / "words.json").write_text(
        json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUTPUT)
