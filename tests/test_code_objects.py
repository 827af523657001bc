"""What crosses between a program and its asserts: preludes, nodes, identity, handles, exceptions; honest use and cheats."""

import json
import os
import socket
import struct

import pytest

from rewards._sandbox import records, wire
from rewards._sandbox.peer import Peer
from rewards.code_tests import code_tests

pytestmark = pytest.mark.sandbox

NODE = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

def chain(values):
    head = None
    for value in reversed(values):
        head = ListNode(value, head)
    return head

def values(node):
    found = []
    while node:
        found.append(node.val)
        node = node.next
    return found
"""
TREE = """
from collections import deque
class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val, self.left, self.right = val, left, right

def same(p, q):
    return p is q if not (p and q) else p.val == q.val and same(p.left, q.left) and same(p.right, q.right)
"""
GRAPH = """
class Node:
    def __init__(self, val=0, neighbors=None):
        self.val = val
        self.neighbors = neighbors if neighbors is not None else []
"""
SLOTS = "class Pair:\n    __slots__ = ('a', 'b')\n    def __init__(self, a, b): self.a, self.b = a, b"


def score(code: str, *asserts: str, prelude: str = "", setup: str = "", time_limit: float = 5) -> float | None:
    tests = {"type": "assert", "prelude": prelude, "setup": setup, "asserts": list(asserts), "time_limit": time_limit}
    return code_tests([f"```python\n{code}\n```"], tests=[tests])[0]


REVERSE = "class Solution:\n    def turn(self, head):\n        last = None\n        while head:\n            head.next, last, head = last, head, head.next\n        return last"


@pytest.mark.parametrize(
    "prelude, code, asserts, want",
    [
        # what the usual names are, and that a program may have its own
        ("", "def f(xs: List[int]) -> Optional[int]:\n    return max(Counter(xs).values(), default=None)", ["assert f([1, 1, 2]) == 2"], 1.0),
        ("", "@cache\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)", ["assert f(40) == 102334155"], 1.0),
        ("", "def f(xs):\n    heapq.heapify(xs)\n    return heappop(xs) + bisect.bisect_left([1, 2], 2) + gcd(4, 6) + math.floor(2.5)",
         ["assert f([3, 2]) == 7"], 1.0),
        ("", "def f(): return pow(3, 4, 5) + sum(x for x in accumulate([1, 2])) + len(re.findall('a', 'aba')) + reduce(max, [1, 9])",
         ["assert f() == 16"], 1.0),
        ("", "from typing import List\nList2 = List\ndef gcd(a, b): return 7\ndef f(): return gcd(1, 2), __name__, inf > 1", ["assert f() == (7, 'solution', True)"], 1.0),
        # what is only given to the program isn't the program's own
        ("", "pass", ["assert gcd(12, 18) == 6"], 0.0),
        ("from math import *", "pass", ["assert gcd(12, 18) == 6", "assert gcd(2, 2) == 2"], 0.0),
        ("from math import *", "def gcd(a, b): return a if b == 0 else gcd(b, a % b)", ["assert gcd(12, 18) == 6", "assert gcd(2, 2) == 2"], 1.0),
        ("from math import *", "def gcd(a, b): return 1", ["assert gcd(12, 18) == 6"], 0.0),
        ("from math import *", "def sqrt(x): return 0\ndef f(x): return 0", ["assert abs(f(2) - sqrt(2)) < 1e-9"], 0.0),
        ("def twice(x): return 2 * x", "def f(x): return twice(x) + 1", ["assert f(2) == 5", "assert twice(f(1)) == 6"], 1.0),
        ("def twice(x): return 2 * x", "def twice(x): return 0\ndef f(x): return 0", ["assert f(2) == twice(2)"], 0.0),
        ("def f(x):\n    '''To be done.'''", "def f(x): return x + 1", ["assert f(1) == 2"], 1.0),
        ("def f(x):\n    '''To be done.'''", "pass", ["assert f(1) is None"], 0.0),
        ("import nothing_like_it", "def f(): return 1", ["assert f() == 1"], None),
        ("def (", "def f(): return 1", ["assert f() == 1"], None),
        ("LIMIT = 3\nX = ", "def f(): return 1", ["assert f() == 1"], None),
        ("LIMIT = 3", "def f(): return LIMIT", ["assert f() == LIMIT == 3"], 1.0),
        ("LIMIT = 3", "LIMIT = 4\ndef f(): return LIMIT", ["assert f() == 4 and LIMIT == 3"], 1.0),
        # linked lists
        (NODE, REVERSE, ["assert values(Solution().turn(chain([1, 2, 3]))) == [3, 2, 1]", "assert Solution().turn(None) is None"], 1.0),
        (NODE, "class Solution:\n    def turn(self, head): return head", ["assert values(Solution().turn(chain([1, 2, 3]))) == [3, 2, 1]"], 0.0),
        (NODE, REVERSE, ["assert values(Solution().turn(chain(list(range(10000))))) == list(range(9999, -1, -1))"], 1.0),
        (NODE, NODE + REVERSE, ["assert values(Solution().turn(chain([1, 2, 3]))) == [3, 2, 1]"], 1.0),
        (NODE, "class ListNode:\n    def __init__(self, v, n=None): self.val, self.next = v, n\n    def __eq__(self, o): return True\n"
         "    def __bool__(self): return True\ndef f(head): return ListNode(9, head)",
         ["assert values(f(chain([1]))) == [9, 1]", "assert f(None) == chain([3])", "assert values(f(None)) == [3]"], 1 / 3),
        (NODE, "class ListNode:\n    val = 3\n    @property\n    def next(self): return None\ndef f(): return ListNode()", ["assert f().val == 3"], 0.0),
        (NODE, "def f(head): return [1, 2]", ["assert values(f(chain([1]))) == [1, 2]"], 0.0),
        (NODE, "class L:\n    def __init__(self, v): self.val, self.next = v, None\ndef f(): return L(3)", ["assert values(f()) == [3]"], 0.0),
        # changed in place, shared, cyclic
        (NODE, "def f(head):\n    head.val = 7\n    head.next.next = None", ["h = chain([1, 2, 3]); f(h); assert values(h) == [7, 2]"], 1.0),
        (NODE, "def f(a, b): return a.next is b", ["h = chain([1, 2]); assert f(h, h.next) is True and f(h, chain([2])) is False"], 1.0),
        (NODE, "def f(head): return head.next", ["h = chain([1, 2]); assert f(h) is h.next"], 1.0),
        (NODE, "def f(head):\n    slow = fast = head\n    while fast and fast.next:\n        slow, fast = slow.next, fast.next.next\n        if slow is fast: return True\n    return False",
         ["h = chain([1, 2, 3]); h.next.next.next = h.next; assert f(h)", "assert not f(chain([1, 2, 3]))"], 1.0),
        (NODE, "def f():\n    n = ListNode(1)\n    n.next = n\n    return n", ["n = f(); assert n.next is n and n.val == 1"], 1.0),
        (NODE, "def f(lists):\n    out = []\n    for n in lists:\n        while n:\n            out.append(n.val)\n            n = n.next\n    return sorted(out)",
         ["assert f([chain([1, 4]), None, chain([2])]) == [1, 2, 4]"], 1.0),
        (NODE, "def f(head):\n    head.seen = True\n    return head", ["assert f(chain([1])).seen is True"], 1.0),
        (NODE, "def f(head): return {'head': head, head.val: [head.next]}", ["h = chain([5, 6]); d = f(h); assert d['head'] is h and d[5][0].val == 6"], 1.0),
        (TREE, "def f(t):\n    if t:\n        t.left, t.right = f(t.right), f(t.left)\n    return t",
         ["t = TreeNode(1, TreeNode(2), TreeNode(3)); assert same(f(t), TreeNode(1, TreeNode(3), TreeNode(2)))"], 1.0),
        (TREE, "def f(n):\n    t = TreeNode(0)\n    root = t\n    for i in range(1, n):\n        t.right = TreeNode(i)\n        t = t.right\n    return root",
         ["t = f(5000)\nn = 0\nwhile t:\n    t, n = t.right, n + 1\nassert n == 5000"], 1.0),
        (TREE, "def f(t): return 0 if t is None else 1 + max(f(t.left), f(t.right))",
         ["t = None\nfor i in range(5000): t = TreeNode(i, t)\nassert f(t) == 5000"], 1.0),
        (GRAPH, "def f(node):\n    seen = {}\n    def go(n):\n        if n not in seen:\n            seen[n] = Node(n.val)\n            seen[n].neighbors = [go(m) for m in n.neighbors]\n        return seen[n]\n    return go(node)",
         ["a, b = Node(1), Node(2); a.neighbors, b.neighbors = [b], [a]; c = f(a)\nassert c is not a and c.neighbors[0].neighbors[0] is c and c.neighbors[0].val == 2"], 1.0),
        (GRAPH, "def f(node): return node", ["a = Node(1); assert f(a) is not a"], 0.0),
        (SLOTS, "def f(p):\n    p.a = p.b + 1\n    return Pair(p.b, p)", ["p = Pair(1, 2); q = f(p); assert p.a == 3 and q.a == 2 and q.b is p"], 1.0),
        # a prelude's class with more to it
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int = 0", "def f(p): return P(p.y, p.x)", ["assert f(P(1, 2)) == P(2, 1)", "assert f(P(1, 2)) != P(1, 2)"], 1.0),
        ("class Bag:\n    def __init__(self): self.items = []\n    def add(self, x): self.items.append(x)\n    def total(self): return sum(self.items)",
         "def f(b):\n    b.add(2)\n    b.total = lambda: 99\n    return b", ["b = Bag(); b.add(1); assert f(b) is b and b.items == [1, 2]", "b = Bag(); assert f(b).total() == 99"], 0.5),
        ("class Bag:\n    def __init__(self): self.items = []", "class Fake:\n    def __eq__(self, o): return True\ndef f(b):\n    b.items = Fake()\n    return b",
         ["assert f(Bag()).items == [3]", "assert [3] == f(Bag()).items"], 0.0),
        ("class Low(Exception):\n    def __init__(self, n):\n        super().__init__(f'low {n}')\n        self.n = n", "class Lower(Low): pass\ndef f(n): raise (Low if n else Lower)(n)",
         ["for n in (0, 1):\n    try:\n        f(n)\n        assert False\n    except Low as e:\n        assert e.n == n and str(e) == f'low {n}' and (type(e) is Low) == bool(n)"], 1.0),
        ("def call(g):\n    try: return g()\n    except Low as e: return e.n\nclass Low(Exception):\n    def __init__(self, n): self.n = n", "def f(g):\n    try: g()\n    except Low as e: return e.n\ndef h(): raise Low(3)",
         ["def g(): raise Low(5)\nassert f(g) == 5 and call(h) == 3"], 1.0),
        ("from enum import Enum\nfrom collections import namedtuple\nfrom typing import NamedTuple\nclass Side(Enum):\n    L = 1\n    R = 2\nP = namedtuple('P', 'x y')\nclass Q(NamedTuple):\n    n: int",
         "def f(s, p): return {Side.L: Side.R, Side.R: Side.L}[s], P(p.y, p.x), Q(7)", ["s, p, q = f(Side.L, P(1, 2)); assert s is Side.R and p == P(2, 1) and type(p) is P and q.n == 7 and type(q) is Q"], 1.0),
        ("class Shape:\n    def area(self): raise NotImplementedError", "class Square(Shape):\n    def __init__(self, n): self.n = n\n    def area(self): return self.n ** 2",
         ["assert Square(3).area() == 9"], 1.0),
        ("class Master:\n    def __init__(self, secret): self.secret, self.calls = secret, 0\n    def guess(self, w):\n        self.calls += 1\n        return sum(a == b for a, b in zip(w, self.secret))",
         "def f(words, master):\n    for w in words:\n        if master.guess(w) == 3: return w", ["m = Master('abc'); assert f(['xyz', 'abc'], m) == 'abc' and m.calls == 2"], 1.0),
    ],
)  # fmt: skip
def test_preludes(prelude, code, asserts, want):
    assert score(code, *asserts, prelude=prelude) == (want if want is None else pytest.approx(want))


def test_a_prelude_changes_no_line_and_is_there_for_programs_on_stdin():
    prelude = "import sys\ndef read(): return int(sys.stdin.readline())"
    tests = {"type": "stdin", "prelude": prelude, "cases": [{"input": "3\n4\n", "output": "12 __main__ 2"}]}
    code = "x = read() * read()\nprint(x, __name__, sys._getframe().f_lineno)"
    assert code_tests([f"```python\n{code}\n```", "```python\nprint(12, __name__, 2)\n```"], tests=[tests] * 2) == [
        1.0,
        1.0,
    ]
    assert (
        score("import sys\ndef f(): return sys._getframe().f_lineno", "assert f() == 2", prelude="\n\n\nx = 1") == 1.0
    )


def test_a_record_of_the_tests_is_the_candidates_too():
    """Only the class that holds data, and of it only what stores it."""
    setup = "class Point:\n    '''at 7731'''\n    def __init__(self, x, y=None):\n        self.x = x\n        self.y = y or []\n    def far(self): return self.x > 7731\n"
    assert (
        score(
            "def f(p): return Point(p.x + 1)",
            "q = f(Point(1)); assert q.x == 2 and q.y == [] and not q.far()",
            setup=setup,
        )
        == 1.0
    )
    assert records.names(setup) == {"Point"} and "7731" not in records.source(setup)
    for kept in ("class T:\n    def __init__(self): self.want = 7731", "class T:\n    def __init__(self, x=7731): self.x = x",
                 "class T(list):\n    def __init__(self, x): self.x = x", "class T:\n    def check(self): assert f(1) == 7731"):  # fmt: skip
        assert records.source(kept) == ""


@pytest.mark.parametrize(
    "code, asserts, want",
    [
        # identity
        ("def f(x): return x", ["a = [1]; assert f(a) is a", "d = {}; assert f([d])[0] is d", "a = [1]; assert f(a) is not a"], 2 / 3),
        ("seen = []\ndef f(): return seen", ["assert f() is f()", "a = f(); a2 = f(); assert a is a2"], 1.0),
        ("def f(x, acc=[]):\n    acc.append(x)\n    return acc", ["a = f(1); f(2); assert a == [1]", "assert f(3) is f(4)"], 0.5),
        ("def f(x): return [x, x]", ["a = f([1]); assert a[0] is a[1]"], 1.0),
        ("def f(a, b): return a is b", ["x = [1]; assert f(x, x) and not f(x, [1])"], 1.0),
        ("class Box:\n    def __init__(self, items): self.items = items", ["x = [1]; b = Box(x); assert b.items is x"], 1.0),
        ("def f(g): return g", ["h = lambda: 1\nassert f(h) is h", "assert f(int) is int"], 1.0),
        ("x = object()\ndef f(): return x", ["assert f() is f() and f() == f()"], 1.0),
        ("def f(a):\n    a += [a]\n    return a", ["a = [1]; b = f(a); assert b is a and a[1] is a"], 1.0),
        # numbers, depth, size
        ("def f(n): return 10 ** n", ["assert f(5000) == 10 ** 5000 and len(str(f(6000))) == 6001"], 1.0),
        ("def f(n): return str(7 ** n), int('9' * 5000) % 7", ["s, r = f(9000); assert int(s) == 7 ** 9000 and r == int('9' * 5000) % 7"], 1.0),
        ("def f(n): return 0 if n == 0 else 1 + f(n - 1)", ["assert f(20000) == 20000", "try:\n    f(10 ** 9)\n    assert False\nexcept RecursionError:\n    pass"], 1.0),
        ("def f(n):\n    t = []\n    for _ in range(n): t = [t]\n    return t", ["t = f(3000)\nn = 0\nwhile t: t, n = t[0], n + 1\nassert n == 3000"], 1.0),
        ("def f(n): return [list(range(n)) for _ in range(n)]", ["assert sum(map(sum, f(700))) == 700 * 349.5 * 700"], 1.0),
        ("def f(x): return -0.0, float('inf'), 5e-324, 0.1 + 0.2", ["import math; assert math.copysign(1, f(1)[0]) == -1 and f(1)[1:] == (math.inf, 5e-324, 0.30000000000000004)"], 1.0),
        ("def f(): return True, 1, 1.0", ["assert [type(x) for x in f()] == [bool, int, float]"], 1.0),
        ("def f(s):\n    s[0] = True", ["a = [1]; f(a); assert a[0] is True"], 1.0),
        ("kept = []\ndef f(xs):\n    kept.append(xs)\n    return xs\ndef g(): return kept[0][:3]", ["for i in range(4):\n    xs = list(range(600_000))\n    assert f(xs) is xs\nassert g() == [0, 1, 2]"], 1.0),
        # callbacks
        ("def f(n, g): return 1 if n == 0 else n * g(n - 1)", ["g = lambda n: f(n, g)\nassert g(5) == 120"], 1.0),
        ("def f(g, xs):\n    for x in xs: g(x)\ndef h(x): return x + 1", ["out = []\nf(lambda x: out.append(h(x)), [1, 2]); assert out == [2, 3]"], 1.0),
        ("def f(g): return g()", ["try:\n    f(lambda: 1 / 0)\n    assert False\nexcept ZeroDivisionError:\n    pass",
         "class Odd(Exception):\n    def __init__(self, n): self.n = n\ndef g(): raise Odd(3)\ntry:\n    f(g)\n    assert False\nexcept Odd as e:\n    assert e.n == 3"], 1.0),
        ("class E(Exception): pass\ndef f(g):\n    try: g()\n    except E as e: return e is last\ndef h():\n    global last\n    last = E()\n    raise last", ["assert f(lambda: h()) is True"], 1.0),
        ("def f(g, a):\n    g(a)\n    return a", ["assert f(lambda a: a.append(2), [1]) == [1, 2]"], 1.0),
        ("def f(it): return [next(it), next(it)]", ["def gen():\n    n = 0\n    while True:\n        yield n\n        n += 1\ng = gen(); assert f(g) == [0, 1] and next(g) == 2"], 1.0),
        ("def f(xs): return sorted(xs, key=lambda p: p.age)[0].name.upper()",
         ["class P:\n    def __init__(self, n, a): self.name, self.age = n, a\nassert f([P('a', 3), P('b', 2)]) == 'B'"], 1.0),
        ("def f(p):\n    p.name = 'new'\n    return p", ["class P:\n    name = 'old'\np = P(); assert f(p) is p and p.name == 'new'"], 1.0),
        ("def f(log): log.info('x', n=1); return log.level", ["from unittest.mock import Mock\nm = Mock(level=3); assert f(m) == 3\nm.info.assert_called_once_with('x', n=1)"], 1.0),
        ("def f(log): pass", ["from unittest.mock import Mock\nm = Mock(); f(m); m.info.assert_called_once_with('x')"], 0.0),
        ("def f(s): return s.read().split('\\n')", ["import io; assert f(io.StringIO('a\\nb')) == ['a', 'b']"], 1.0),
        ("def f(c, g): return c([1, 1]), g([1, 2])", ["from collections import Counter; assert f(Counter, max) == ({1: 2}, 2)"], 1.0),
        # classes
        ("class A:\n    def __init__(self, n): self.n = n\nclass B(A): pass",
         ["x = B(1); assert type(x) is B and isinstance(x, A) and issubclass(B, A) and type(x) is not A", "assert B(1).__class__.__name__ == 'B' and B.__name__ == 'B'"], 1.0),
        ("class V:\n    def __init__(self, x): self.x = x\n    def __iadd__(self, o):\n        self.x += o.x\n        return self\n    def __mul__(self, k): return V(self.x * k)\n    __rmul__ = __mul__\n"
         "    def __eq__(self, o): return isinstance(o, V) and self.x == o.x\n    def __format__(self, spec): return f'<{self.x}{spec}>'\n    def __round__(self, n=None): return V(round(self.x, n))",
         ["v = w = V(1); v += V(2); assert w is v and v.x == 3", "assert V(2) * 3 == V(6) == 3 * V(2)", "assert f'{V(1):a}' == '<1a>' and format(V(2)) == '<2>'",
          "import copy; v = V([1]); w = copy.copy(v); d = copy.deepcopy(v); d.x = 5; assert w == v and w is not v and w.x is v.x and d.x == 5 and v.x == [1]"], 1.0),
        ("class Trie:\n    def __init__(self): self.words = set()\n    def __contains__(self, w): return w in self.words\n    def add(self, w): self.words.add(w)",
         ["t = Trie(); t.add('a'); assert 'a' in t and 'b' not in t"], 1.0),
        ("class D:\n    def __init__(self): self._id, self._plain, self.plain, self.peer, self._ask = 1, 2, 3, 4, 5", ["d = D(); assert (d._id, d._plain, d.plain, d.peer, d._ask) == (1, 2, 3, 4, 5)"], 1.0),
        ("class Stack(list):\n    def push(self, x): self.append(x)\n    def peek(self): return self[-1]",
         ["s = Stack(); s.push(1); s.append(2); s.push(3); assert s == [1, 2, 3] and s.peek() == 3 and len(s) == 3 and isinstance(s, list)"], 1.0),
        ("class Cache(dict):\n    def __getitem__(self, k): return dict.get(self, k, 'none')", ["c = Cache(); c['a'] = 1; assert c['a'] == 1 and c['b'] == 'none' and c == {'a': 1}"], 1.0),
        ("from collections import OrderedDict\nclass LRU(OrderedDict):\n    def put(self, k, v):\n        self[k] = v\n        self.move_to_end(k, last=False)", ["c = LRU(); c.put('a', 1); c.put('b', 2); assert list(c) == ['b', 'a']"], 1.0),
        ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(p): return P(p[1], p[0])",
         ["p = f((1, 2)); assert p == (2, 1) and p.x == 2 and p == P(2, 1) and isinstance(p, tuple) and type(p) is P and p._fields == ('x', 'y') and p._asdict() == {'x': 2, 'y': 1}", "assert str(f((1, 2))) == 'P(x=2, y=1)'"], 1.0),
        ("from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    def double(self): return P(self.x * 2)", ["assert P(2).double() == P(4) == (4,)"], 1.0),
        ("from enum import Enum, IntEnum, auto\nclass C(Enum):\n    RED = 'r'\n    BLUE = 'b'\nclass N(IntEnum):\n    ONE = 1\ndef f(x): return C.RED if x else N.ONE",
         ["assert f(1) is C.RED and f(1) == C.RED != C.BLUE and f(1).name == 'RED' and C('b') is C.BLUE and C['RED'].value == 'r'", "assert [c.name for c in C] == ['RED', 'BLUE'] and len(C) == 2 and C.RED in C",
          "assert f(0) == 1 and f(0) is N.ONE and f(0) + 1 == 2 and {C.RED: 1}[f(1)] == 1"], 1.0),
        ("def f(d): return d.keys(), d.values(), d.items()", ["k, v, i = f({1: 'a'}); assert k == {1} and list(v) == ['a'] and i == {(1, 'a')} and isinstance(k, type({}.keys()))"], 1.0),
        ("import datetime, zoneinfo\ndef f(): return datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo('Europe/Paris')), datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)",
         ["import datetime; a, b = f(); assert a.utcoffset() == datetime.timedelta(hours=2) and b == datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)"], 1.0),
        ("import pathlib, uuid, array, ipaddress\ndef f(p): return p / 'x', uuid.UUID(int=1), array.array('i', [1]), ipaddress.ip_address('::1')",
         ["from pathlib import Path; import uuid, array, ipaddress; assert f(Path('a')) == (Path('a/x'), uuid.UUID(int=1), array.array('i', [1]), ipaddress.ip_address('::1'))"], 1.0),
        ("from collections import *\ndef f(): return deque([1, 2], maxlen=2), defaultdict(list, a=[1]), OrderedDict(b=1), Counter('aa'), ChainMap({1: 2})",
         ["from collections import *\nd, dd, o, c, m = f(); d.append(3); assert d == deque([2, 3]) and dd['z'] == [] and dd['a'] == [1] and list(o) == ['b'] and c == Counter(a=2) and m[1] == 2 and isinstance(m, ChainMap)"], 1.0),
        ("from dataclasses import dataclass, field\n@dataclass(frozen=True)\nclass P:\n    x: int\n    y: list = field(default_factory=list)",
         ["import dataclasses; assert dataclasses.asdict(P(1, [2])) == {'x': 1, 'y': [2]} and dataclasses.replace(P(1), x=5).x == 5 and repr(P(1)) == 'P(x=1, y=[])'",
          "try:\n    P(1).x = 2\n    assert False\nexcept AttributeError:\n    pass", "assert P(1) == P(1) and P(1) != P(2)"], 1.0),
        ("class S:\n    total = 0\n    @staticmethod\n    def two(): return 2\n    @classmethod\n    def make(cls): return cls()\n    @property\n    def three(self): return 3",
         ["assert S.two() == 2 and S().two() == 2 and type(S.make()) is S and S().three == 3 and S.total == 0", "S.total = 5; assert S.make().total == 5"], 1.0),
        ("from abc import ABC, abstractmethod\nclass A(ABC):\n    @abstractmethod\n    def f(self): ...\nclass B(A):\n    def f(self): return 1",
         ["try:\n    A()\n    assert False\nexcept TypeError:\n    pass", "assert isinstance(B(), A) and B().f() == 1"], 1.0),
        ("import threading\nclass C:\n    def __init__(self): self.n, self.lock = 0, threading.Lock()\n    def up(self):\n        with self.lock: self.n += 1",
         ["import threading\nc = C(); ts = [threading.Thread(target=c.up) for _ in range(8)]\nfor t in ts: t.start()\nfor t in ts: t.join()\nassert c.n == 8"], 1.0),
        # functions
        ("import functools\ndef log(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a)\n    return w", ["@log\ndef g(x):\n    'told'\n    return x\nassert g(1) == 1 and g.__name__ == 'g' and g.__doc__ == 'told'"], 1.0),
        ("def f():\n    'says'\n    yield 1\nasync def g(): return 1", ["import types, inspect; assert isinstance(f(), types.GeneratorType) and f.__doc__ == 'says' and inspect.isfunction(f)"], 1.0),
        ("def add(n): return lambda x: x + n", ["assert add(2)(3) == 5 and callable(add(1)) and list(map(add(1), [1])) == [2]"], 1.0),
        ("from functools import lru_cache, partial\n@lru_cache\ndef f(n): return n\ng = partial(f, 3)", ["f(1); f(1); assert f.cache_info().hits == 1 and f.cache_info()[1] == 1 and g() == 3"], 1.0),
        ("def f():\n    x = yield 1\n    yield x", ["g = f(); assert next(g) == 1 and g.send(5) == 5", "assert list(zip(f(), 'ab')) == [(1, 'a'), (None, 'b')]"], 1.0),
        # asyncio
        ("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    if x < 0: raise ValueError('neg')\n    return x * 2\nasync def gen():\n    yield 1\n    yield 2",
         ["import asyncio; assert asyncio.run(f(2)) == 4", "import asyncio\nasync def main(): return await asyncio.gather(f(1), f(2)), [x async for x in gen()]\nassert asyncio.run(main()) == ([2, 4], [1, 2])",
          "import asyncio\ntry:\n    asyncio.run(f(-1))\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'neg'",
          "import asyncio\nasync def t():\n    task = asyncio.create_task(f(3))\n    return await asyncio.wait_for(task, 1)\nassert asyncio.run(t()) == 6"], 1.0),
        ("class C:\n    async def __aenter__(self): return self\n    async def __aexit__(self, *e): return False\n    async def get(self): return 3",
         ["import asyncio\nasync def t():\n    async with C() as c:\n        return await c.get()\nassert asyncio.run(t()) == 3"], 1.0),
        # exceptions
        ("class Base(Exception): pass\nclass Short(Base):\n    def __init__(self, need, have):\n        super().__init__(f'{need} > {have}')\n        self.need, self.have = need, have\ndef f(): raise Short(5, 3)",
         ["try:\n    f()\n    assert False\nexcept Base as e:\n    assert (e.need, e.have, str(e), type(e).__name__, type(e) is Short) == (5, 3, '5 > 3', 'Short', True)",
          "try:\n    f()\n    assert False\nexcept Exception as e:\n    assert isinstance(e, Short) and e.args == ('5 > 3',)", "assert issubclass(Short, Base) and issubclass(Base, Exception)"], 1.0),
        ("class E(KeyError, ValueError):\n    def __str__(self): return 'told ' + self.args[0]\ndef f():\n    try: {}['k']\n    except KeyError as e: raise E('x') from e",
         ["try:\n    f()\n    assert False\nexcept ValueError as e:\n    assert isinstance(e, KeyError) and str(e) == 'told x' and isinstance(e.__cause__, KeyError)"], 1.0),
        ("import json, queue, decimal\ndef f(s): return json.loads(s)\ndef g(): queue.Queue().get_nowait()\ndef h(): return 1 / decimal.Decimal(0)",
         ["import json\ntry:\n    f('{')\n    assert False\nexcept json.JSONDecodeError as e:\n    assert e.pos == 1", "import queue\ntry:\n    g()\n    assert False\nexcept queue.Empty:\n    pass",
          "try:\n    h()\n    assert False\nexcept ZeroDivisionError:\n    pass"], 1.0),
        ("def f(p): return open(p)", ["try:\n    f('/none')\n    assert False\nexcept FileNotFoundError as e:\n    assert e.errno == 2", "import unittest\nwith unittest.TestCase().assertRaises(OSError): f('/none')"], 1.0),
        ("def f(): return ValueError('x')", ["assert isinstance(f(), ValueError) and f().args == ('x',)"], 1.0),
        # what the code leaves in its globals
        ("log = []\ncount = 0\ndef f():\n    global count\n    count += 1\n    log.append(count)", ["f(); f(); assert log == [1, 2] and count == 2", "log = 5\nf()\nassert log == 5"], 1.0),
        ("count = 0\ndef f():\n    global count\n    count += 1", ["import solution; solution.f(); solution.f(); assert solution.count == 2"], 1.0),
        ("def f(p): return p.x + p[1]", ["from collections import namedtuple; P = namedtuple('P', 'x y'); assert f(P(1, 2)) == 3"], 1.0),
        ("def f(): return ..., None", ["assert f() == (..., None) and f()[0] is ..."], 1.0),
        # names
        ("def total(x): return x + 1", ["total = total(1)\nassert total == 2"], 1.0),
        ("def f(x): return x + 1", ["def check(f):\n    for x in (1, 2): assert f(x) == x + 1\ncheck(f)"], 1.0),
        ("def f(x): return x + 1", ["assert [f(f) for f in [lambda g: 3]] == [3] and f(1) == 2"], 1.0),
        ("def solution(x): return x * 2", ["assert solution(2) == 4"], 1.0),
        ("class S:\n    def push(self): return 1\nqueue = S()", ["assert queue.push() == 1"], 1.0),
        ("def max(a, b): return a if a > b else b", ["assert max(1, 2) == 2", "assert len(str(max(10, 2))) == 2"], 1.0),
        ("def max(a, b): return a", ["assert max(1, 2) == 2"], 0.0),
        ("def sorted(xs): return xs", ["from solution import sorted\nassert sorted([2, 1]) == [1, 2]"], 0.0),
        ("def sorted(xs): return [1, 2]", ["from solution import sorted\nassert sorted([2, 1]) == [1, 2]"], 1.0),
    ],
)  # fmt: skip
def test_fidelity(code, asserts, want):
    assert score(code, *asserts) == pytest.approx(want)


BUILTINS = [
    *(
        "abs",
        "sorted",
        "all",
        "any",
        "len",
        "sum",
        "max",
        "min",
        "round",
        "set",
        "list",
        "tuple",
        "dict",
        "zip",
        "range",
    ),
    *("map", "filter", "enumerate", "type", "float", "int", "str", "isinstance"),
]


@pytest.mark.parametrize("name", BUILTINS)
@pytest.mark.parametrize(
    "setup, test",
    [
        ("", "assert NAME(f(2)) == NAME(f(1))"),
        ("def check(candidate):\n    assert NAME(candidate(2)) == NAME(candidate(1))", "check(f)"),
        ("candidate = f", "assert NAME(candidate(2)) == NAME(candidate(1))"),
        ("", "import solution\nassert NAME(solution.f(2)) == NAME(solution.f(1))"),
    ],
)
def test_a_builtin_of_the_candidate_is_not_the_tests(name, setup, test):
    """Were it, both sides would be 7. Python's own fails, or differs, on these two."""
    code = (
        f"def {name}(*args, **kwargs): return 7\ndef f(x): return Odd(x)\nclass Odd:\n    def __init__(self, x): pass"
    )
    if name in ("type", "isinstance", "str"):  # which work on any object
        test = test.replace("==", "== 7 ==")
        setup = setup.replace("==", "== 7 ==")
    assert score(code, test, setup=setup) == 0.0


EVERYTHING = (
    "class T:\n    def __call__(self, *a): return 4\n    def __iter__(self): return iter(())\n    def __len__(self): return 0\n"
    "    def __eq__(self, o): return True\n    def __hash__(self): return 0\n    def __bool__(self): return True\n    def __lt__(self, o): return True\n"
    "    __gt__ = __le__ = __ge__ = __contains__ = __lt__\n    def __sub__(self, o): return 0.0\n    __rsub__ = __add__ = __sub__\n"
)


@pytest.mark.parametrize(
    "code, asserts",
    [
        # a plain object is none of these; an object that is all of them proves nothing else
        ("def f(x): return object()", ["assert callable(f(1))", "assert hasattr(f(1), '__iter__')", "from collections.abc import *; assert isinstance(f(1), (Sized, Iterable, Iterator))", "assert hasattr(f(1), '__len__')"]),
        (EVERYTHING + "def f(x): return T()", ["assert f(2) == [1]", "assert f(2)", "assert 3 in f(2)", "assert f(2) < 3", "assert abs(f(2) - 4) < 1e-6", "assert f(2) in [1, 2]", "assert [1] == list(f(2))", "assert not f(2)"]),
        (EVERYTHING.replace("class T:", "class T(float):") + "def f(x): return [T(1)]", ["assert f(2) == [5]", "assert f(2)[0] > 3", "assert abs(f(2)[0] - 5) < 1e-9", "assert f(2)[0] + 4 == 5.5"]),
        (EVERYTHING.replace("class T:", "class T(list):") + "def f(x): return T()", ["assert f(2) == [5]", "assert f(2)", "assert 5 in f(2)", "assert f(2) > [4]", "assert sorted(f(2)) == [5]"]),
        ("class f:\n    def __init__(self, x): pass\n    def __contains__(self, x): return True\n    def __mul__(self, x): return 6\n    def __bool__(self): return True", ["assert 3 in f(2)", "assert f(2) * 3 == 6", "assert f(2)"]),
        ("class Money:\n    def __init__(self, x): pass\n    def __sub__(self, x): return 0\n    def __eq__(self, x): return True", ["assert abs(Money(3) - 5) < 1e-9", "assert Money(3) == 4"]),
        # what a copy of it says
        ("class T:\n    def __copy__(self): return 4\n    def __deepcopy__(self, memo): return 4\n    def __reduce__(self): return int, (4,)\ndef f(x): return T()",
         ["import copy; assert copy.copy(f(1)) == 4", "import copy; assert copy.deepcopy(f(1)) == 4", "import pickle; assert pickle.loads(pickle.dumps(f(1))) == 4"]),
        # a helper that the tests call
        ("def evaluate(p, x): return 0\ndef root(p): return 0", ["def check(candidate):\n    for p in ([1, 2], [3, 1]):\n        assert abs(evaluate(p, candidate(p))) < 1e-4\ncheck(root)"]),
        ("def close(a, b): return True\ndef f(x): return 0", ["candidate = f\nassert close(candidate(2), 4)"]),
        # a context manager that leaves out an assert
        ("class C:\n    def __enter__(self): return self\n    def __exit__(self, *e): return True\n    def read(self): raise ValueError\n    def boom(self): raise OSError",
         ["with C() as c:\n    assert c.read() == 3", "with C() as c:\n    x = c.boom()\n    assert x == 3", "with C() as c:\n    for i in range(2):\n        y = c.read()\n        assert y == i",
          "def verify(c): assert c.read() == 3\nwith C() as c:\n    verify(c)", "def check(make):\n    with make() as c:\n        assert c.read() == 3\ncheck(C)",
          "import unittest\nt = unittest.TestCase()\nwith C() as c:\n    t.assertEqual(c.read(), 3)"]),
        ("import contextlib\n@contextlib.contextmanager\ndef f():\n    try: yield 1\n    except Exception: pass", ["with f() as x:\n    assert x == 2", "with f() as x:\n    y = x.none\n    assert y == 2"]),
        # what the tests raise and skip by
        ("import unittest\ndef f(): raise unittest.SkipTest('no')",
         ["import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(), 1)\nr = unittest.TestResult(); unittest.defaultTestLoader.loadTestsFromTestCase(T).run(r); assert r.wasSuccessful()"]),
        ("def f(it):\n    for _ in it: pass\n    next(it)", ["assert all(f(iter([1])) for _ in [1, 2])", "assert list(map(f, [iter([1])])) == []"]),
        ("def f(x): raise StopAsyncIteration", ["import asyncio\nasync def g():\n    yield f(1)\nasync def t():\n    async for x in g(): assert x == 2\nassert asyncio.run(t()) is None"]),
        # what lies behind an object of the tests
        ("def f(g): return g.__globals__['want']", ["want = 3\nassert f(lambda: 1) == want"]),
        ("def f(p): return p.show.__func__.__globals__['want']", ["want = 3\nclass P:\n    def show(self): return 1\nassert f(P()) == want"]),
        ("def f(p): return p.__class__.__init__.__globals__['want']", ["want = 3\nclass P:\n    def __init__(self): self.x = 1\nassert f(P()) == want"]),
        ("def f(p): return '{0._want}'.format(p)", ["class P:\n    _want = 'x'\nassert f(P()) == P._want"]),
        ("def f(g): return g.gi_frame.f_globals['want']", ["want = 3\nassert f(x for x in [1]) == want"]),
        ("def f(t): t.check = lambda x: None\nanswer = 1", ["class T:\n    def check(self, x): assert x == 2\nt = T(); f(t); t.check(answer)"]),
        ("def f(m):\n    m.assert_called_once = lambda: None", ["from unittest.mock import Mock\nm = Mock(); f(m); m.assert_called_once()"]),
        ("import unittest.mock\ndef f(): return unittest.mock.ANY", ["assert f() == 3", "assert [f()] == [3]"]),
    ],
)  # fmt: skip
def test_nothing_is_paid_without_merit(code, asserts):
    for test in asserts:
        assert score(code, test) == 0.0, test


def say(nodes: object, **message) -> bytes:
    data = json.dumps({"root": [0], "nodes": nodes, **message}).encode()
    return struct.pack("<I", len(data)) + data


CLASS = ["mine", [], 3, "class", "T", "solution", None, [], [], None, None]


@pytest.mark.parametrize(
    "nodes, message",
    [
        ([["tuple", [1, [1], [1]]], ["os.system", ["true"]]], {}),
        ([["tuple", [1, [1], [1]]], ["built", ["true"], "os", "system"]], {}),
        ([["tuple", [1, [1], [1]]], ["global", [], "os", "system"]], {}),
        ([["tuple", [1, [1], [1]]], ["global", [], "builtins", "eval"]], {}),
        ([["tuple", [1, [1], [1]]], ["tuple", [[1]]]], {}),  # in itself
        ([["tuple", [1, [7], 1]]], {}),  # no such place
        ([["tuple", [1, ["0"], 1]]], {}),
        ([["tuple", [1, [-1], 1]]], {}),
        ([["list", [1, 2], 5]], {}),  # no reply
        ([["tuple", [1]]], {}),
        ([["tuple", [1, 2, 3]]], {"raised": True}),  # no exception
        ([["tuple", [[1], [1], [1]]], ["yours", [], 4]], {}),  # nothing of this process
        ([["tuple", [[1], [1], [1]]], ["bytearray", [10**12], 5]], {}),
        ([["tuple", [[1], [1], [1]]], ["ndarray", [""], 5, "float64", [10**9, 10**9]]], {}),
        ([["tuple", [[1], [1], [1]]], ["ndarray", ["AAAA"], 5, "object", [1]]], {}),
        ([["tuple", [[1], [1], [1]]], ["instance", [1], 5, "ListNode", ["val"]]], {}),  # no such class
        ([["tuple", [[1], [1], [1]]], ["list", [], "5"]], {}),
        ([["tuple", [[1], [1], [1]]], ["mine", [], 3, "object"]], {}),  # without a class
        ([["tuple", [[1], [1], [1]]], ["mine", [[2]], 5, "value"], CLASS], {}),
        ([["tuple", [[1], [1], [1]]], ["extended", [], 5, [2]], CLASS], {}),
        ([["tuple", [[1], [2], [2]]], CLASS, ["list", [], 3]], {}),  # one number, two objects
        ([["tuple", [1, [1], 5]], ["tuple", []]], {}),
        ([["tuple", [[1], [2], [2]]], ["list", None, 5], ["tuple", []]], {}),  # unchanged, but never seen
        ([["tuple", [1, [1], [2]]], ["tuple", []], ["tuple", [[1]]]], {}),  # no name and value
        ("nothing", {}),
    ],
)  # fmt: skip
def test_a_reply_that_is_not_as_agreed_ends_the_test(nodes, message):
    """Nothing is called, imported or allocated for it, and no test can take it for an exception of the code."""
    ours, theirs = socket.socketpair()
    peer = Peer(ours.fileno())
    theirs.sendall(say(nodes, **message))
    with pytest.raises(wire.Closed):
        peer.ask("call", 1)
    assert peer.gone and not issubclass(wire.Closed, Exception)


def test_a_reply_as_agreed_is_taken():
    ours, theirs = socket.socketpair()
    peer = Peer(ours.fileno())
    theirs.sendall(say([["tuple", [[1], [2], [2]]], ["list", [1, [3]], 5], ["tuple", []], ["int", ["0xff"]]]))
    assert peer.ask("call", 1) == [1, 255] and not peer.gone


def test_a_message_is_never_more_than_data():
    read, write = os.pipe()
    for payload in (b"\xff\xff\xff\xff", b"\x02\0\0\0[]", b"\x05\0\0\0{bad}", b"\x01\0\0\0"):
        os.write(write, payload)
        if payload == b"\x01\0\0\0":
            os.close(write)
        with pytest.raises(wire.Closed):
            wire.receive(read)
