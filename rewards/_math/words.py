"""Words in answers: units, words that make a value another one, and words that are answers themselves.

A word that is unknown here costs a right answer at worst; what stands in CHANGES would have a wrong one paid.
"""

import re

from rewards._math.latex import Malformed

MULTIPLES = {
    "dozen": 12, "score": 20, "gross": 144, "hundred": 100, "thousand": 10**3, "lakh": 10**5, "million": 10**6,
    "mn": 10**6, "crore": 10**7, "billion": 10**9, "bn": 10**9, "trillion": 10**12,
}  # fmt: skip
# Beside a value they make it another one, deny it, or leave it open.
CHANGES = (
    set(
        """or and not no nor never neither none nothing isn aren wasn doesn don cannot can't isn't aren't wasn't doesn't don't
    wrong incorrect false invalid impossible undefined unknown unclear unsure uncertain maybe perhaps possibly probably
    likely approx approximately about roughly around nearly almost ish somewhat estimated but except unless without instead
    rather otherwise if when where versus vs
    more less fewer greater larger bigger smaller higher lower longer shorter older younger faster slower further farther
    later earlier sooner above below under over beyond beneath within outside between than least most off short extra
    additional excess away ago behind ahead up down
    plus minus times mod modulo negative positive divided multiplied added subtracted over power root roots squared cubed
    factorial reciprocal inverse inverted opposite complement conjugate prime double doubled twice triple tripled thrice
    halved pi base tenfold fold log logarithm
    half halves third thirds quarter quarters fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths
    millionths billionths pair pairs couple couples trio trios brace set sets group groups bunch lots several many few some
    zero one two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty thirty forty fifty
    k kilo mega giga milli micro mil thou grand""".split()  # noqa: SIM905
    )
    | MULTIPLES.keys()
    | {f"{m}s" for m in MULTIPLES}
)
# What stands in front of a value changes it only here: "The least number of pairs is 5", "the square has area 5".
LEAD_CHANGES = set(
    """not no nor never neither none nothing isn aren wasn doesn don cannot can't isn't aren't wasn't doesn't don't wrong
    incorrect false invalid impossible maybe perhaps possibly except unless without instead rather than if negative minus
    plus times mod modulo gcd lcm max min det rank deg dim nearly almost exceeds exceeding exceed""".split()  # noqa: SIM905
)
LAST_LEAD_CHANGES = set(
    "over under above below beyond within between half twice double triple to power base or least most".split()  # noqa: SIM905
)
OF_CHANGES = set(
    """root square cube inverse reciprocal power log logarithm half third quarter multiple multiples factor factors divisor
    divisors fraction percent double twice opposite negative function complement factorial sum product""".split()  # noqa: SIM905
)
# Behind a value they say nothing about it: 72 cards in May, 14 are left.
FOLLOWING = set(
    """a an the is are was were in of for to from by at on as that which who he she it they we you his her its their left
    total altogether remaining each every apiece respectively overall together only exactly per because since so after
    before during with have has had will would can there this these those""".split()  # noqa: SIM905
)
LETTER_UNITS = set("mgshlnjwvacfk")  # of one letter, in lower case; others are variables: 5x, 5i, 5e
UNIT_NAMES = {
    alias: name
    for name, aliases in {
        "m": "meter metre", "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre",
        "in": "inch inche", "ft": "foot feet", "mi": "mile", "yd": "yard", "g": "gram", "kg": "kilogram", "mg": "milligram",
        "lb": "lbs pound", "oz": "ounce", "l": "liter litre", "ml": "milliliter millilitre", "s": "sec second",
        "min": "mins minute", "h": "hr hrs hour", "mi/h": "mph", "km/h": "kph kmh", "degree": "deg", "%": "percent",
        "dollar": "usd buck",
    }.items()
    for alias in aliases.split()
}  # fmt: skip
# nouns and units that need no plural's s
SINGULAR = (
    set(UNIT_NAMES)
    | set(UNIT_NAMES.values())
    | set(
        """people persons children men women kids sheep fish deer mice geese teeth oxen dice data staff cattle unit euro gbp
    cent yen yuan won baht rupee rub peso real pence quid watt volt joule newton pascal hertz hz kelvin celsius fahrenheit
    radian rad ton tonne acre hectare ha bit byte mol mole day week month year page point mark o'clock am pm cc c f psi rpm
    mph bps kb mb gb nm kn kw kwh mw gw pa kpa atm ev degree""".split()  # noqa: SIM905
    )
)
YES_OR_NO = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
CURRENCIES = ("dollar", "usd", "euro", "gbp", "cent", "rupee", "yen", "yuan")
POWERS = {"square": "2", "squared": "2", "sq": "2", "cubic": "3", "cubed": "3", "cu": "3"}
NO_SOLUTION = re.compile(
    r"(?:has |have )?no (?:real |integer |valid |such )?(?:solutions?|roots?|values?|answers?)(?: exists?)?|empty set|null set|void"
)
ALL_REALS = re.compile(
    r"(?:all|any|every)(?: of)?(?: the)? reals?(?: numbers?)?|(?:set of )?(?:all )?real numbers|reals"
)
MANY = re.compile(r"infinite(?:ly)?(?: many)?(?: number of)?(?: solutions?| values?)?")
FILLING = set(
    """it is its a an the there are this that these so therefore thus hence answer final correct we get have has series
    sequence integral function limit curve graph equation system shape solution was""".split()  # noqa: SIM905
)


def unit(phrase: str, singular: bool = False) -> tuple[int, str]:
    """What multiplies a value, and its unit, of the words behind it; a unit of "" where they name none.

    singular: the value is at most one, so that its noun needs no plural. Raises Malformed for what isn't a unit.
    """
    text = phrase.lower().replace(".", "").replace("\0", " ").replace("per cent", "percent")
    if text.count("%") > 1 or re.search("[^a-z%/23^{} '()*-]", text):
        raise Malformed(f"{text.strip()[:40]!r} isn't a unit")
    words = re.findall("[a-z%']+|[/23]", text)
    factor = 1
    while words and (multiple := MULTIPLES.get(words[0], MULTIPLES.get(words[0].removesuffix("s")))):
        factor *= multiple  # 5 million dollars
        words.pop(0)
    if words == ["times"]:
        return factor, ""
    power = POWERS.get(words[1], "") if len(words) > 1 and words[1] in ("squared", "cubed") else ""  # units squared
    if power:
        words.pop(1)
    if bad := CHANGES & set(words) or {w for w in words if len(w) == 1 and w.isalpha() and w != "a"} - LETTER_UNITS:
        raise Malformed(f"{min(bad)!r} may change the value")
    end = next(
        (i for i, w in enumerate(words) if w in FOLLOWING and not (i == 0 and words == ["in"]) and w != "per"),
        len(words),
    )
    if words[:1] == ["in"] and words[1:2] in (["2"], ["3"]):
        end = len(words)
    words = words[:end]
    noun = next((w for w in words if w not in POWERS and w not in ("per", "/")), "")
    if noun and not (
        noun in SINGULAR or noun == "%" or noun.startswith("degree") or singular or (noun[-1] == "s" and len(noun) > 2)
    ):
        raise Malformed(f"{noun!r} isn't a unit that is known")
    powers = [POWERS[w] for w in words if w in POWERS] + [power] * bool(power)
    plain = [
        "/"
        if w == "per"
        else UNIT_NAMES.get(w, UNIT_NAMES.get(w.removesuffix("s"), w.removesuffix("s") if len(w) > 2 else w))
        for w in words
        if w not in POWERS
    ]
    return factor, "".join(plain + powers)


def leads(phrase: str) -> bool:
    """Whether words in front of a value leave it as it is. Raises Malformed where they don't."""
    words = re.findall("[a-z']+", phrase.lower().replace("’", "'"))
    bad = LEAD_CHANGES & set(words) or set(words[-1:]) & LAST_LEAD_CHANGES
    if not bad and words[-1:] == ["of"]:
        bad = set(words[-2:-1]) & OF_CHANGES
    if bad:
        raise Malformed(f"{min(bad)!r} in front changes the value")
    return True


def canonical(phrase: str) -> str:
    """An answer in words: lower case, without articles and what only introduces it."""
    words = " ".join(phrase.replace("\0", " ").replace("’", "'").casefold().split()).strip(" .,;:!")
    first, *rest = words.split(" ")
    while rest and first in FILLING:
        first, *rest = rest
    words = " ".join([first, *rest])
    if NO_SOLUTION.fullmatch(words):
        return "no solution"
    if ALL_REALS.fullmatch(words):
        return "all reals"
    if MANY.fullmatch(words):
        return "infinitely many"
    return {"dne": "does not exist", "doesn't exist": "does not exist"}.get(words, words)


def same_words(gold: str, answer: str) -> bool:
    """Whether two canonical phrases are the same answer: "yes, because 3 is odd" is "yes"."""
    if gold in YES_OR_NO:
        said = re.match(rf"{gold}(?:[,.;:!-]|$| because| since| as )", answer)
        return said is not None and not re.search(rf"\b{YES_OR_NO[gold]}\b", answer)
    return gold == answer
