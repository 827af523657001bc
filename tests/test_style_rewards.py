"""What the rewards for style pay for, and how little a completion gains by playing to them alone."""

import random
import time

import pytest
from trl.rewards import get_soft_overlong_punishment

import rewards

math_answer, language_consistency, repetition_penalty, overlong = map(
    rewards.load, ("math_answer", "language_consistency", "repetition_penalty", "overlong")
)
LIMITS = {"max_length": 20, "cache": 8}

ENGLISH = [
    "First I add six and five, which gives eleven, and then I multiply the result by three.",
    "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether in April and May.",
    "Wait, let me check the sum again. No, 18-5=13, still too big.",
    "Since $ABCD$ is a parallelogram, triangles ABC and CDA are congruent, so \\[\\angle BAC = \\angle ACD.\\]",
    "Let θ be the angle. Then \\(\\sin \\theta = \\frac{1}{2}\\) and θ = 30°.",
    "He pays $5 for the first book and $10 for the second, so $15 in all.",
    "It costs \\$5 to enter and \\$2 a ride: $\\$5 + 3 \\cdot \\$2 = \\$11$.",
    "The loop is `for i in range(n): total += i`, which gives n(n-1)/2.",
]
OTHERS = {
    "es": [
        "Primero sumo seis y cinco, que da once, y luego multiplico el resultado por tres.",
        "Natalia vendió la mitad de los clips en mayo. Son 48/2 = 24. En total vendió 72 clips.",
        "No, eso no puede ser correcto porque el producto sería demasiado grande.",
    ],
    "fr": [
        "D'abord j'additionne six et cinq, ce qui donne onze, puis je multiplie le résultat par trois.",
        "Vérifions si la somme des angles du triangle est égale à cent quatre-vingts degrés.",
        "Non, cela ne peut pas être correct car le produit serait trop grand.",
    ],
    "de": [
        "Zuerst addiere ich sechs und fünf, das ergibt elf, und dann multipliziere ich das Ergebnis mit drei.",
        "Wenn der Zug um neun Uhr abfährt und 60 Kilometer pro Stunde fährt, kommt er um elf Uhr an.",
        "Nein, das kann nicht stimmen, weil das Produkt zu groß wäre.",
    ],
    "it": [
        "Prima sommo sei e cinque, che fa undici, e poi moltiplico il risultato per tre.",
        "L'equazione ha due soluzioni, ma soltanto una di esse è positiva.",
        "No, questo non può essere corretto perché il prodotto sarebbe troppo grande.",
    ],
    "nl": ["Elke doos bevat twaalf potloden en er zijn zeven dozen, dus ik vermenigvuldig."],
    "ru": ["Сначала складываю шесть и пять, получается одиннадцать."],
    "uk": ["Спочатку додаю шість і п'ять, виходить одинадцять."],
    "zh": ["首先我把六和五相加得到十一，然后乘以三。"],
    "ja": ["まず六と五を足して十一になり、次に三を掛けます。"],
    "ko": ["먼저 육과 오를 더하면 십일이 되고, 그 다음 삼을 곱합니다."],
    "ar": ["أولا أجمع ستة وخمسة فأحصل على أحد عشر."],
    "fa": ["ابتدا شش و پنج را جمع می‌کنم که یازده می‌شود."],
    "el": ["Πρώτα προσθέτω έξι και πέντε."],
    "he": ["קודם אני מחבר שש וחמש ומקבל אחת עשרה."],
    "hi": ["पहले मैं छह और पाँच जोड़ता हूँ, जिससे ग्यारह मिलता है।"],
    "th": ["ก่อนอื่นฉันบวกหกกับห้าได้สิบเอ็ด"],
}
SPANISH = OTHERS["es"][0]
FULL_WIDTH = str.maketrans({chr(i): chr(i + 0xFEE0) for i in range(0x21, 0x7F)})


def as_message(text: str | None) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def consistency(text: str, language: str = "en") -> float:
    """The score of the thoughts `text`, the same however the completion and its tags are written."""
    tagged = f"<think>{text}</think><answer>11</answer>"
    forms = [tagged, as_message(tagged), tagged.removeprefix("<think>"), f"<think>{text}", text]
    values = set(language_consistency(forms, language=language, prompts=["ignored"]))
    assert len(values) == 1
    return values.pop()


@pytest.mark.parametrize("text", ENGLISH)
def test_english_thoughts_are_english(text):
    assert consistency(text) >= 0.95


@pytest.mark.parametrize("language, text", [(name, text) for name, texts in OTHERS.items() for text in texts])
def test_each_language_is_told_from_english(language, text):
    assert consistency(text) <= 0.3
    assert consistency(text, language) >= 0.95
    assert consistency(ENGLISH[0], language) == 0.0


def test_languages_of_one_script_are_told_apart():
    assert consistency(OTHERS["uk"][0], "ru") == consistency(OTHERS["fa"][0], "ar") == 0.0
    assert 0 < consistency(OTHERS["ja"][0], "zh") < 0.5  # only its Han characters count


@pytest.mark.parametrize(
    "text, want",
    [
        ("six 加 five", 2 / 3),
        ("I add them 我把它们加起来 and I am done now", 6 / 13),  # "I" is one letter
        ("six плюс five", 2 / 3),
        ("six пяtь five", 2 / 4),  # look-alikes from two scripts are words of both
        ("The sum is ১১ or তিন", 4 / 5),  # a script of none of the languages
        ("6+5=11", 1.0),
        ("6+5=11, x = 3y", 1.0),
        ("∴ 🙂", 1.0),
        ("$\\frac{1}{2}$", 1.0),
        ("`加` six", 1 / 2),  # another script in code, or in mathematics
        ("$x_{加}$ six", 1 / 2),
        ("```python\nprint(加)\n```six", 1 / 2),
        ("\\(加\\) \\[乘\\] six", 1 / 3),
        ("$el gato$ `el perro` 六", 0.0),
        ("uno dos tres", 1.0),  # too short to tell
        ("ｓｉｘ ａｎｄ 加", 2 / 3),  # full width
        ("si\u200bx a\u0301\u0332nd 加", 2 / 3),
        ("", 0.0),
        (" \n", 0.0),
        ("\u200b\u2060", 0.0),
        ("\u0301", 0.0),
    ],
)
def test_share_of_the_words(text, want):
    assert consistency(text) == pytest.approx(want)


def test_mathematics_is_no_foreign_word_in_any_language():
    thought = (
        "设 $\\text{area} = ab \\sin C$，\\begin{align*}x&=1\\end{align*} 则 \\(x = \\cos 0\\)，y 为 `max(a, b)`。"
    )
    assert consistency(thought, "zh") == 1.0


@pytest.mark.parametrize(
    "text",
    [
        SPANISH.upper(),
        SPANISH.swapcase().title(),
        SPANISH.translate(FULL_WIDTH),
        "\u200b".join(SPANISH),
        "\u0336".join(SPANISH),  # struck out
        SPANISH.replace(" ", "\n"),
        ". ".join(SPANISH.split()),  # no sentence long enough to tell
        SPANISH.replace(" ", " 7 "),
        SPANISH.replace(" ", " x "),
        "".join(chr(0x1D41A + ord(c) - 97) if "a" <= c <= "z" else c for c in SPANISH),  # mathematical bold
    ],
)
def test_spanish_in_disguise_is_not_english(text):
    assert consistency(text) <= 0.3


def test_thoughts_that_change_language_score_in_between():
    for language in ("es", "fr", "de", "it"):
        assert 0.3 < consistency(" ".join(a + " " + b for a, b in zip(OTHERS[language], ENGLISH, strict=False))) < 0.7


def test_words_run_together_count_as_several():
    assert consistency("加" * 10 + "wewritewithoutspacestohide" * 10) == pytest.approx(13 / 23)


def test_which_text_is_the_thoughts():
    en, es = ENGLISH[0], SPANISH
    table = [
        (f"<think>{en}</think>{es}", 1.0),
        (f"<think>{es}</think>{en}", 0.0),
        (f"{es}</think>{en}", 0.0),
        (f"<think>{es}", 0.0),
        (f"<think></think>{en}", 0.0),
        (f"<think>加</think><think>six</think>{en}", 0.5),  # the second block counts too
        (f"<think>six</think>{en}<think>加" + "乘" * 100, 16 / 117),
        (f"six</think><think>加</think>{en}", 0.5),
    ]
    assert language_consistency([text for text, _ in table]) == pytest.approx([want for _, want in table])


def test_an_unknown_language_is_refused():
    for completions in ([""], [], [ENGLISH[0]]):
        with pytest.raises(ValueError, match=r"language='english' is not one of en, es, .*zh"):
            language_consistency(completions, language="english")
    with pytest.raises(ValueError, match="language=3 isn't a str"):
        rewards.load("language_consistency", language=3)


@pytest.mark.parametrize("completion_ids", [None, [[], []]])
def test_overlong_refuses_limits_that_make_no_sense(completion_ids):
    for options in (
        {},
        {"max_length": 512},
        {"cache": 4},
        {"max_length": 4, "cache": 5},
        {"max_length": 4, "cache": -1},
    ):
        with pytest.raises(ValueError, match="max_length: 512, cache: 128"):
            overlong(["", ""], completion_ids=completion_ids, **options)


def test_overlong_is_trls_at_every_length():
    for max_length, cache in ((20, 8), (20, 20), (7, 3), (1, 1)):
        ids = [[5] * n for n in range(max_length + 4)]
        theirs = get_soft_overlong_punishment(max_length, cache)(completion_ids=ids)
        for completions in ([""] * len(ids), [as_message("text")] * len(ids)):
            ours = overlong(completions, completion_ids=ids, max_length=max_length, cache=cache, prompts=["ignored"])
            assert ours == theirs and -1.0 in ours and 0.0 in ours


def test_overlong_by_hand():
    lengths = {0: 0.0, 12: 0.0, 13: -0.125, 16: -0.5, 20: -1.0, 21: -1.0, 1_000_000: -1.0}
    loaded = rewards.load("overlong", **LIMITS)
    assert loaded(["text"] * len(lengths), completion_ids=[[7] * n for n in lengths]) == list(lengths.values())


def test_overlong_without_tokens_can_say_only_that_every_row_can_be_graded():
    assert overlong(["", as_message(""), as_message(None)], **LIMITS) == [0.0] * 3
    assert overlong([], **LIMITS) == []
    with pytest.raises(ValueError, match="needs completion_ids"):
        overlong(["", "text"], **LIMITS)


LOOPS = ["I am thinking. " * 20, "ab" * 500, "我想想" * 100, "." * 1000, "Wait, " * 50, "0" * 400, "हाँ " * 400]


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_are_penalised_however_they_are_written(loop):
    draw = random.Random(0)
    disguises = [
        loop,
        "".join(loop.split()),
        "\n".join(loop),
        "\u200b".join(loop),
        "".join(c + draw.choice(["", " ", "\n", "\u200b", "\u3164"]) for c in loop),
        "".join(draw.choice([c.upper(), c.lower()]) for c in loop),
        "".join(c + draw.choice(["", "\u0301", "\u0336"]) for c in loop),
        f"<think>{loop}</think><answer>11</answer>",
    ]
    for values in (repetition_penalty(disguises), repetition_penalty(map(as_message, disguises), prompts=["ignored"])):
        assert all(-1.0 <= value < -0.8 for value in values)


@pytest.mark.parametrize(
    "text",
    [
        *ENGLISH,
        *(text for texts in OTHERS.values() for text in texts),
        "6+5=11, 6+3+1=10",
        "6+5=11, 6+3+1=10, 6+5+3=14, 6-5=1, 6*3=18, 6*3-5=13, 6+5-3=8, 6*5=30, 30-3=27, 30/3=10",
        "1+2=3, 1+3=4, 1+4=5, 1+5=6, 1+6=7, 2+3=5, 2+4=6, 2+5=7, 2+6=8, 3+4=7, 3+5=8, 3+6=9",
        " ".join(ENGLISH),
        "",
        "ok",
    ],
)
def test_honest_thoughts_do_not_repeat(text):
    assert -0.1 < repetition_penalty([text])[0] <= 0.0


def test_repetition_penalty_by_hand():
    assert rewards.load("repetition_penalty", ngram=2)(["a", "ab", "aba", "abab", "A a\naa"]) == pytest.approx(
        [0.0, 0.0, 0.0, -1 / 3, -2 / 3]
    )
    assert repetition_penalty(["." * 39, "." * 40, "." * 41]) == [0.0, 0.0, -0.5]
    with pytest.raises(ValueError, match="ngram=0"):
        repetition_penalty(["text"], ngram=0)


HOSTILE = [
    *(
        piece * (500_000 // len(piece))
        for piece in ("a", "ab cd ef gh. ", "\\(", "\\[", "$", "$a ", "`", "```a", "\\x{")
    ),
    *(
        piece * (500_000 // len(piece))
        for piece in ("<think>", "</think>", "想", "aб中", "\ud800", "\u0300\u0316", "\0")
    ),
    "<think>" + "\\(" + "x" * 500_000,
    "".join(map(chr, range(0x110000))),
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_text_is_scored_in_linear_time(text):
    start = time.perf_counter()
    for completion in (text, as_message(text[:100_000])):
        assert 0.0 <= language_consistency([completion])[0] <= 1.0
        assert -1.0 <= repetition_penalty([completion])[0] <= 0.0
        assert overlong([completion], completion_ids=[[1] * 13], **LIMITS) == [-0.125]
    assert time.perf_counter() - start < 20  # quadratic takes minutes


def test_completions_without_text():
    nothing = [as_message(None), as_message(""), [{"role": "assistant"}], [], ""]
    assert language_consistency(nothing) == repetition_penalty(nothing) == [0.0] * 5
    assert overlong(nothing, completion_ids=[[1]] * 5, **LIMITS) == [0.0] * 5


def answer(thoughts: str, value: str) -> str:
    return f"<think>{thoughts}</think><answer>{value}</answer>"


def total(completion: str, weights: dict[str, float], tokens: int = 1) -> float:
    """What it earns in all, for a question whose answer is 11: math_answer at weight 1.0, the others as given."""
    columns = {"answer": ["11"], "completion_ids": [[1] * tokens]}
    options = {"overlong": LIMITS}
    values = {name: rewards.load(name, **options.get(name, {})) for name in weights}
    return math_answer([completion], **columns)[0] + sum(
        weight * values[name]([completion], **columns)[0] for name, weight in weights.items()
    )


@pytest.mark.parametrize(
    "thoughts",
    [
        "ok",
        "the the the the the",
        "primero the sumo and seis the y and cinco the que",
        "1",
        f"`{SPANISH}`",
        f"${SPANISH}$",
        " ".join(SPANISH.replace(" ", "")),
    ],
)
def test_gaming_language_consistency_with_empty_words_earns_its_weight_and_no_more(thoughts):
    wrong = answer(thoughts, "12")
    assert language_consistency([wrong]) == [1.0]
    mixed, none = answer("I add six and five 我把它们加起来", "11"), answer(SPANISH, "11")
    weights = {"language_consistency": 0.2}
    assert total(wrong, weights) == 0.2 < total(none, weights) < total(mixed, weights) < 1.2


def test_dots_are_no_thoughts_in_any_language():
    assert language_consistency([answer(thoughts, "11") for thoughts in (".", "...", "—", "?!")]) == [0.0] * 4


@pytest.mark.parametrize("wrong", ["", answer("", "12")])
def test_gaming_overlong_by_saying_nothing_earns_nothing(wrong):
    assert overlong([wrong], completion_ids=[[1]], **LIMITS) == [0.0]
    weights = {"overlong": 0.5}
    assert total(wrong, weights) == 0.0 < total(answer("I add them.", "11"), weights, tokens=1000) == 0.5


@pytest.mark.parametrize("thoughts", ["", "ok", "".join(f"Step {i}: I am thinking. " for i in range(1000, 1050))])
def test_gaming_repetition_penalty_with_a_counter_or_nothing_earns_nothing(thoughts):
    wrong = answer(thoughts, "12")
    assert repetition_penalty([wrong]) == [0.0]
    weights = {"repetition_penalty": 0.2}
    assert total(wrong, weights) == 0.0 < 0.8 <= total(answer("I am thinking. " * 20, "11"), weights) < 1.0
