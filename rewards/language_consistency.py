"""Are the thoughts in one language? DeepSeek-R1's language consistency reward (arXiv 2501.12948, section 2.3.2).

    words of the target language in the thoughts / words in the thoughts

Gamed by thoughts that say nothing ("ok" earns 1.0, as does arithmetic without a word), and by other languages, salted with
"the" and "and", or where they are not read: in backticks, in $...$, spelt letter by letter, outside the tags. Each earns the
weight, whatever the answer: keep it small, such as 0.2.
"""

import functools
import itertools
import re
import unicodedata

from rewards._text import text_of
from rewards.think_format import UNSEEN, visible

# languages -> their scripts, by the first word of Unicode's character names; py3langid tells apart those of one line
LANGUAGES = {
    "en es fr de it pt nl pl sv da fi hu cs ro tr vi id": "LATIN",
    "ru uk bg": "CYRILLIC",
    "ar fa ur": "ARABIC",
    "zh": "CJK IDEOGRAPHIC",
    "ja": "CJK IDEOGRAPHIC HIRAGANA KATAKANA",
    **{"ko": "HANGUL", "el": "GREEK", "he": "HEBREW", "hi": "DEVANAGARI", "th": "THAI"},
}
RIVALS = {name: names for names in LANGUAGES for name in names.split()}
UNSPACED = {*LANGUAGES["ja"].split(), "THAI", "LAO", "KHMER", "MYANMAR"}  # each character is a word
FEWEST_WORDS = 4  # thoughts of fewer have the benefit of the doubt
ENOUGH_WORDS, MOST_WORDS = 8, 30  # a shorter sentence is judged with the next one, a longer one in pieces
LONGEST_WORD = 20  # letters: a longer one counts as several
# the probability that a sentence is of another language: benchmarks/style_rewards.py shows what honest solutions then earn
LANGUAGE_CONFIDENCE = 0.75
TOKEN = re.compile(r"[^\W\d_]+|[.!?:;\n。]")
# $5 and $6 are prices: as in Pandoc, no blank inside the dollars, no digit after them. Linear: no alternative reads past
# the next opening sign
MATHEMATICS = re.compile(
    r"```.*?```|`[^`]*`|\$\$[^$]*\$\$|\$(?=\S)[^$]*(?<=\S)\$(?!\d)"
    r"|\\[(\[][^\\]*(?:\\(?![()\[\]])[^\\]*)*\\[)\]]|\\[A-Za-z]+(?:\{[A-Za-z*]*\})?",
    re.S,
)
NO_WORD = re.compile(r"[A-Za-zÀ-ɏḀ-ỿ\W\d_]+")  # in mathematics


def language_consistency(completions, *, language: str = "en", **_) -> list[float]:
    """The share of the thoughts' words that are in `language` (ISO 639-1), 0.0 to 1.0; 0.0 where nothing was thought.

    Script decides between scripts, and py3langid, a sentence at a time, between languages that share one; in Chinese,
    Japanese and Thai each character is a word. Numbers, LaTeX, code, and single Latin or Greek letters are not words,
    and thoughts without any word score 1.0. Japanese that is all Han passes for Chinese, and Chinese for Japanese.
    """
    if language not in RIVALS:
        raise ValueError(f"language_consistency: language={language!r} is not one of {', '.join(RIVALS)}")
    return [score(text_of(c), language) for c in completions]


def score(text: str, language: str) -> float:
    text = thoughts(text)
    if not visible(text):
        return 0.0
    text = MATHEMATICS.sub(lambda m: NO_WORD.sub(" ", m[0]), plain(text).replace("\\$", " "))
    scripts = LANGUAGES[RIVALS[language]].split()
    total, sentences = 0, [[]]  # of each sentence, the words in the language's script
    for script, word in words(text):
        if len(sentences[-1]) >= (MOST_WORDS if script else ENOUGH_WORDS):
            sentences.append([])
        total += bool(script)
        if script in scripts:
            sentences[-1].append(word)
    if len(sentences) > 1 and len(sentences[-1]) < ENOUGH_WORDS:
        sentences[-2:] = [sentences[-2] + sentences[-1]]
    right = sum(len(s) for s in sentences if len(s) < FEWEST_WORDS or not foreign(s, language))
    return right / total if total else 1.0


def thoughts(text: str) -> str:
    """From the first <think> to the last </think>; from the start, or to the end, where that one is missing."""
    start, closed, end = text.find("<think>"), text.find("</think>"), text.rfind("</think>")
    start = 0 if 0 <= closed < start else max(start, 0)
    end = end if text.rfind("<think>") < end else len(text)
    return text[start:end].replace("<think>", " ").replace("</think>", " ")


def plain(text: str) -> str:
    """The text without invisible characters; accents are composed, and full-width and mathematical letters plain."""
    # a thousand characters at a time: normalize() is quadratic in a run of combining marks
    parts = (unicodedata.normalize("NFKC", text[i : i + 1000]) for i in range(0, len(text), 1000))
    return "".join(c for part in parts for c in part if c.isspace() or unicodedata.category(c) not in UNSEEN)


def words(text: str):
    """The script of each word, and the word; None and a sign where a sentence ends."""
    for token in TOKEN.findall(text):
        for script, letters in itertools.groupby(token, script_of):
            word = "".join(letters)
            size = 1 if script in UNSPACED else LONGEST_WORD
            if len(word) > 1 or script not in ("LATIN", "GREEK"):
                yield from ((script, word[i : i + size]) for i in range(0, len(word), size))


@functools.cache
def script_of(letter: str) -> str | None:
    return re.split("[ -]", unicodedata.name(letter, "UNKNOWN"))[0] if letter.isalpha() else None


def foreign(sentence: list[str], language: str) -> bool:
    """Whether the words are surely of another of the languages in this script."""
    best, probability = detector(RIVALS[language]).classify(" ".join(sentence).lower())
    return best != language and probability >= LANGUAGE_CONFIDENCE


@functools.cache
def detector(languages: str):
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # loads NumPy, which no other reward needs

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(languages.split())
    return identifier
