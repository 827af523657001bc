r"""One spelling for what only looks different: Unicode, spacing, delimiters, wrappers, thousands, words.

Words, whether in \text{...} or bare, end up between NULs, which no answer has of its own.
"""

import re

from rewards._math.latex import ALIASES, FUNCTIONS, WORDS
from rewards._math.words import LEAD_CHANGES

# An explicit map: NFKC would turn 5² into 52. U+2009 and U+200A mark thin and negative spaces until digits are grouped.
UNICODE = str.maketrans(
    {
        **{chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)},  # full-width ASCII
        **dict.fromkeys("−–—‐‑‒﹣", "-"), **dict.fromkeys("×·∙⋅✕∗", "*"), **dict.fromkeys("÷⁄∕", "/"),
        **dict.fromkeys("\u2002\u2003\u2004\u2005\u3000", " "), "\u202f": "\u2009", "\xa0": "\u2009", "\u200a": "",
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\xad\ufe0f✅✓✔☑•●▪∎", ""), "。": ".", "、": ",", "…": r"\ldots ", "⋯": r"\ldots ",
        **{c: rf"\frac{{{n}}}{{{d}}}" for c, n, d in zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "112131234151357", "233445555668888", strict=True)},
        **{c: rf"\{name} " for c, name in zip(
            "πθαβγδλμσφωρτ∞√∛≤≥⩽⩾≠∪∩∈∅±∓≈≡′ℝ∖∠⟨⟩⌊⌋⌈⌉",
            (
                "pi", "theta", "alpha", "beta", "gamma", "delta", "lambda", "mu", "sigma", "phi", "omega", "rho",
                "tau", "infty", "sqrt", "sqrt[3]", "le", "ge", "le", "ge", "ne", "cup", "cap", "in", "emptyset",
                "pm", "mp", "approx", "equiv", "prime", "reals", "setminus", "angle", "langle", "rangle", "lfloor",
                "rfloor", "lceil", "rceil"),
            strict=True)},
        "→": r"\to ", "⇒": r"\to ", "℃": r"^\circ C", "℉": r"^\circ F", "₹": "\0rupee\0", "¥": "\0yen\0", "″": "''", "∴": "",
        "°": r"^\circ ", "€": "\0euro\0", "£": "\0gbp\0", "¢": "\0cent\0", "º": r"^\circ ", "“": '"', "”": '"', "’": "'",
    }
)  # fmt: skip
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ", "0123456789+-()nx")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ]+")
SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉ₙ]+")

COMMAND = re.compile(
    r"\\(?:(?:left|right)\s*\.|(?:text)?color\s*\{[^{}]*\}|\\(?:\[[^\]\[]{0,9}\])?|[a-zA-Z]+\*?|.)", re.S
)
_SAME = {
    "": r"left right middle checkmark qed big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits nolimits "
        r"large Large small bf rm it newline ( ) [ ]",
    r"\ldots ": "dots cdots dotsc dotsb dotsm", "'": "prime", r"\setminus ": "backslash",
    " ": r"; : quad qquad space thinspace",
    "\u2009": ",", "\u200a": "!", "*": "cdot times ast", "/": "div", "%": "%", "\0dollar\0": "$",
    r"\frac ": "dfrac tfrac cfrac", r"\binom ": "dbinom tbinom", r"\le ": "leq leqslant", r"\ge ": "geq geqslant",
    r"\ne ": "neq", "<": "lt", ">": "gt", r"\emptyset ": "varnothing", r"\{": "lbrace", r"\}": "rbrace",
    "|": "lvert rvert vert mid", r"\infty ": "infin", r"\overline ": "bar", r"^\circ ": "degree", "\0or\0": "lor vee",
    r"\phi ": "varphi", r"\epsilon ": "varepsilon", r"\to ": "rightarrow", ":": "colon", "_": "_", "^": "^",
}  # fmt: skip
SPELLING = {"\\" + name: to for to, names in _SAME.items() for name in names.split()} | {"\\ ": " "}
TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathsf|mbox|hbox|operatorname\*?)\s*\{([^{}]*)\}"
)
EMPTY = re.compile(r"(?:\\(?:text|mathrm|mbox))?\s*\{\}")
UNIT_FRACTION = re.compile(r"\\frac\s*\{\s*\0([^\0]*)\0\s*\}\s*\{\s*\0([^\0]*)\0\s*\}")
UNIT_POWER = re.compile(r"\0([^\0]*?)\s*([a-zA-Z]+)\s*\0\s*\^\s*\{\s*-([123])\s*\}")  # m s^{-1} is m/s
AREA = re.compile(r"\s*([ckm]?m|in|ft|yd|mi)\s*\^\s*([23])\s*")
BOLD = re.compile(
    r"\\(?:underline|ensuremath|mathop|framebox|mathbf|mathit|boldsymbol|bm|vec|mathcal|hat|overrightarrow|mathbb)\s*(?=\{)"
)
BOX = re.compile(r"\\{0,2}(?:[bf]boxed|boxed|fbox|framebox)\s*\{(.*)\}", re.S)
# what Markdown, HTML and LaTeX put around an answer; ** between two factors is a power, <b> alone is an inequality
MARKUP = re.compile(r"(?<![\w)\]}])(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?![\w(])|<(b|i|em|strong|p|span|u)>(.*?)</\3>", re.S)
INVISIBLE = re.compile(
    r"\\[hv]?phantom\s*\{[^{}]*\}|\\[hv]space\*?\s*\{[^{}]*\}|\\(?:begin|end)\s*\{(?:aligned|align\*?|equation\*?|gathered|split)\}"
)
ORDINAL = re.compile(
    r"([0-9])\s*(?:\^\s*)?\{?\s*(?:\0\s*)?(?:st|nd|rd|th)\b(?:\s*\0)?\s*\}?(?:\s+([a-zA-Z]{3,})\b)?(?![a-zA-Z])"
)
CURRENCY = re.compile(r"\b(?:US|AU|CA|NZ|HK|SG?|A|C)\s?\\?\$|\b(?:Rs|INR)\b\.?(?=\s*[0-9])")
DOTS = re.compile(r"\.{2,}|(?:\s*\.){3,}")
REPEATING = re.compile(r"([0-9]*\.[0-9]*?)(?:([0-9])\2{2,}|([0-9]{2,6}?)\3+)\s*\\ldots")
# x for all real x, as far as it says no more
DOMAIN = re.compile(
    r"(?:[,;]\s*|\s+)(?:\\forall\s*|\0\s*(?:for|where|with)?\s*(?:(?:all|every|each|any)\s*)?(?:real\s*)?(?:numbers?\s*)?\0\s*)?"
    r"(?:[a-zA-Z]\s*\\in\s*\\reals|(?<=\0)\s*[a-zA-Z])\s*(?=\\\}?$|$)"
)
CONCLUSION = re.compile(r"(.*\d.*[.;\n].*)\banswer is\b:?\s*", re.S | re.I)  # 48/2=24. 48+24=72. So the answer is 72.
FOREIGN_LEAD = re.compile(r"^(?:最终)?(?:答案|结果)\s*(?:是|为|:)?\s*:?\s*|^(?:所以|因此|故|即)\s*,?\s*")
CONTRACTED = re.compile(r"\b(it|that|there|here|what|s?he)'s\b", re.I)
NOT = re.compile(r"n't\b")
MINUS = re.compile(r"^\0?(?:minus|negative)\0?\s+(?=[0-9\\(])", re.I)
FRENCH = re.compile(r"([\[\]])([^\[\]()]*,[^\[\]()]*)([\[\]])")
GROUPED = re.compile("(?<![0-9.,])[0-9]{1,3}(?:(?:\u2009|\\{,\\}|\u200a*,\u200a+ *)[0-9]{3})+(?![0-9])")
THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9]|,[0-9])")
DOTTED = re.compile(r"\\dot\s*(?:([0-9])|\{([0-9])\})(?:([0-9]*)\\dot\s*(?:([0-9])|\{([0-9])\}))?")
LEAD = re.compile(
    r"(?:#{2,}|(?:\\to\s)+|\0?\s*(?:so |thus |hence |therefore,? )?(?:the )?(?:final )?answer(?: is\b|:)+:?\s*\0?)\s*",
    re.I,
)

UNITS = {
    "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "in", "inch", "lb", "lbs", "oz", "hr", "hrs", "min", "mins",
    "sec", "mph", "kph", "yd", "mi", "cc", "am", "pm", "AM", "PM", "deg", "rad", "sq", "cu", "cm²", "USD",
}  # fmt: skip
# words too short to be told from products by their length
SHORT_PROSE = set("is of so the she her his has had was are you day age for get its our".split())  # noqa: SIM905
PROSE = re.compile(r"(?<![\\a-zA-Z])(?!(?:or|and)\b)[a-zA-Z]+(?:[ -](?!(?:or|and)\b)[a-zA-Z]+)*(?![a-zA-Z])")


def normalize(answer: str) -> str:
    r"""One spelling of an answer: text and words between NULs, plain commands, no delimiters, no thousands marks but ","."""
    s = answer.replace("\0", "").strip().strip('`"').translate(UNICODE)
    s = (
        MARKUP.sub(lambda m: m[2] or m[4] or "", s).strip("* \n")
        if "**" in s or "__" in s or "<" in s
        else s.strip("*")
    )
    s = CURRENCY.sub(lambda m: "\0dollar\0" if "$" in m[0] else "\0rupee\0", INVISIBLE.sub("", s))
    if "'" in s:
        s = NOT.sub(" not", CONTRACTED.sub(r"\1 is", s))
    s = SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(SUPERSCRIPTS)}}}", s)
    s = SUBSCRIPT.sub(lambda m: f"_{{{m[0].translate(SUBSCRIPTS)}}}", s)
    s = s.strip()
    while (box := BOX.fullmatch(s.strip("$ \n."))) and balanced(box[1]):
        s = box[1].strip()
    s = DOTS.sub(r"\\ldots ", COMMAND.sub(_command, s)) if "." in s or "dots" in s else COMMAND.sub(_command, s)
    s = REPEATING.sub(lambda m: rf"{m[1]}\overline{{{m[2] or m[3]}}}", s)
    s = EMPTY.sub("", s.replace("$", "").replace("~", " "))
    s = re.sub(r"(?<![a-z])\{:\}", ":", s)
    for _ in range(3):  # wrappers in wrappers
        s = TEXT.sub(_text, s)
    s = UNIT_FRACTION.sub("\0\\1/\\2\0", s)
    s = UNIT_POWER.sub(lambda m: f"\0{m[1]}/{m[2]}\0" + (f"^{m[3]}" if m[3] != "1" else ""), s)
    s = BOLD.sub("", re.sub(r"\\mathbb\s*(?:\{\s*R\s*\}|R)", r"\\reals ", s))
    s = GROUPED.sub(lambda m: re.sub("[^0-9]", "", m[0]), s).replace("\u2009", " ").replace("\u200a", "")
    s = DOTTED.sub(lambda m: rf"\overline{{{''.join(filter(None, m.groups()))}}}", s)
    s = re.sub(r"\^\s*\{?\s*\0\s*o\s*\0\s*\}?", r"^\\circ ", re.sub(r"\^\s*\{\s*'\s*\}|\^\s*'", "'", s))
    s = re.sub(r"\^\s*\{?\s*\\circ\s*\}?(\s*[CF](?![a-zA-Z]))?", "\0degree\\1\0", s)
    s = re.sub(r"\\\{\s*\\\}", r"\\emptyset ", s)
    s = re.sub(r"\b([ap])\.\s?m\b\.?", "\0\\1m\0", s, flags=re.I)
    s = re.sub(r"([)\]])\s*U\s*([(\[])", r"\1\\cup \2", s)
    s = re.sub(r"\0\s*\(?base[ -](?:([0-9]+)\)?\s*\0|\0\s*([0-9]+))", r"_{\1\2}", s)
    s = ORDINAL.sub(lambda m: f"{m[1]} \0{m[2]}s\0" if m[2] else m[1], s)
    s = re.sub(r"(?<=[0-9])\s*[xX]\s*(?=10\s*\^)", "*", re.sub(r"^\s*\+\s*/?\s*-|\+/-", r"\\pm ", s))
    s = re.sub(r"\blog(2|10)\s*(?=\()", r"\\log_{\1}", s)
    if "&" in s and r"\begin" not in s:
        s = s.replace("&", "\0and\0" if re.search(r"[0-9]\s*&\s*[0-9]", s) else "")
    if re.match(r"\s*\(?a\)", s) and "b)" in s:  # (a) 5, (b) 7
        s = re.sub(r"(?:^|[,;\s]+)\(?[a-h]\)\s*", ", ", s).lstrip(", ")
    if (done := CONCLUSION.match(s)) and not LEAD_CHANGES & set(done[1].lower().split()):
        s = s[done.end() :]
    s = FRENCH.sub(_french, s.strip()) if FRENCH.fullmatch(s.strip()) else s
    s = FOREIGN_LEAD.sub("", LEAD.sub("", s.strip(), count=1) if LEAD.match(s.strip()) else s.strip())
    s = re.sub(r"^\s*=(?!=)\s*", "", s)
    s = MINUS.sub("-", s)
    pieces = s.split("\0")  # every second one is text already
    s = "\0".join(p if i % 2 else PROSE.sub(_prose, p) for i, p in enumerate(pieces))
    s = re.sub(r"\0in base\0\s*([0-9]+)$", r"_{\1}", re.sub(r"\(\s*\0([^\0]*)\0\s*\)$", "\0\\1\0", s))
    s = re.sub(r"^\s*([a-zA-Z])\s*\\in\s*\\reals\s*,\s*(?=\1)", "", DOMAIN.sub("", s))  # x \in R, x \ne 2
    return re.sub(r"\0\s+\0", " ", re.sub(r"(?:[.,;\s]|\\\\)+$", "", s)).strip()


def _french(match: re.Match) -> str:
    """]0,1[ as (0,1)."""
    return f"{'(' if match[1] == ']' else '['}{match[2]}{')' if match[3] == '[' else ']'}"


def _command(match: re.Match) -> str:
    if match[0].startswith("\\\\"):
        return "\\\\"  # a matrix row, without its spacing
    return "" if match[0][-1] in ".}" and len(match[0]) > 2 else SPELLING.get(match[0], match[0])


def _text(match: re.Match) -> str:
    r"""\text{...} keeps its words between NULs; a number or formula in it is only a formula; i and e are constants."""
    inner = match[1].replace("\0", "")
    if area := AREA.fullmatch(inner):
        return f"\0{area[1]}\0^{area[2]}"
    if inner.strip() in FUNCTIONS:
        return f"\\{inner.strip()} "
    if match[0].startswith((r"\mathrm", r"\operatorname")) and (inner in ("i", "e") or inner.strip() in WORDS):
        return inner if len(inner) == 1 else f"\\{inner.strip()} "
    return f"\0{inner}\0" if "base" in inner or re.fullmatch(r"[\s(]*[^\W\d_][^=<>+*^\\_0-9]*", inner) else inner


def _prose(match: re.Match) -> str:
    """Words outside \\text: any of four letters or more, and the usual short units; shorter ones are products."""
    if named := NAMED_LETTER.fullmatch(match[0]):  # the line is y = 2x
        return f"\0{named[1]}\0{named[2]}"
    word = ALIASES.get(match[0], match[0])
    if word in WORDS:
        return f"\\{word} "
    words = set(re.split("[ -]", match[0])) - WORDS - ALIASES.keys()
    prose = any(
        w in UNITS
        or w.casefold() in SHORT_PROSE
        or (len(w) > 3 and not w.startswith(("sin", "cos", "tan", "log", "sqrt")))
        for w in words
    )
    return f"\0{match[0]}\0" if prose else match[0]


NAMED_LETTER = re.compile(
    r"((?:.*\s)?(?:is|are|so|then|thus|hence|therefore|that|when|where|for|of|value|variable|get|have|find))\s+([b-hj-zA-HJ-Z])",
    re.I,
)


def balanced(s: str) -> bool:
    depth = 0
    for i, c in enumerate(s):
        if c in "{}" and s[i - 1 : i] != "\\":
            depth += 1 if c == "{" else -1
            if depth < 0:
                return False
    return depth == 0
