"""One end of the connection between a candidate and its tests: the same for both, but for what each may ask for.

Questions and answers nest: a callback may call the candidate again. Every object that isn't plain data has a number, and
crosses as a handle: "mine" to the sender, "yours" when it is sent back. Instances of the classes that both ends have from
the prelude cross with their attributes, and are rebuilt from the receiver's own class.
"""

import enum
import threading
import types
from collections.abc import Callable

from rewards._sandbox import wire

MAX_COPIED = 1 << 20  # items in copies that both ends remember; more are forgotten, and would cross as new objects


class Session:
    def __init__(self, fd: int, first_number: int):
        self.fd, self.gone = fd, False
        self.lock = threading.RLock()  # a callback asks again, within a question
        self.depth = 0
        self.next_number = first_number  # odd ones here, even ones there
        self.numbers: dict[int, int] = {}  # of objects, by id
        self.mine: dict[int, object] = {}
        self.theirs: dict[int, object] = {}  # what stands for them here
        self.copies: dict[int, object] = {}
        self.copied = 0  # items in them
        self.given: dict[str, object] = {}  # by the prelude
        self.classes: dict[str, type] = {}  # those whose instances cross as structures
        self.watched: dict[str, object] = {}  # the candidate's globals that the tests read
        self.snapshots: dict[int, list] = {}  # what copies held when the question that is being answered came

    def give(self, given: dict[str, object]) -> None:
        self.given = given
        self.classes = {n: v for n, v in given.items() if is_plain_class(v)}

    # -- questions and answers

    def ask(self, operation: str, *values: object) -> object:
        with self.lock:
            self.depth += 1
            try:
                self.tell({"do": operation}, values)
                while "do" in (message := self.receive()):
                    self.answer(message)
                return self.outcome(operation, message)
            finally:
                self.depth -= 1

    def outcome(self, operation: str, message: dict) -> object:
        values = self.unpack(message)
        raised = "raised" in message
        try:
            value, _, rebound = values
            if raised and not isinstance(value, BaseException):
                raise TypeError("no exception")
            self.take_rebound(dict(rebound))
        except (TypeError, ValueError) as error:
            self.gone = True
            raise wire.Closed("no message") from error
        if raised:
            raise value
        return value

    def answer(self, message: dict) -> None:
        outer, self.snapshots = self.snapshots, {}
        try:
            values = self.unpack(message, remember=True)
            for value in self.watched.values():
                number = self.numbers.get(id(value))
                if number in self.copies and number not in self.snapshots:
                    self.snapshots[number] = self.state(value)
            reply: dict = {}
            try:
                value: object = self.perform(message.get("do"), *values)
            except wire.Closed:
                raise
            except BaseException as error:
                reply, value = {"raised": True}, error
            copies = {n: self.numbered(n) for n in self.snapshots}
            unchanged = {n for n, old in self.snapshots.items() if wire.same_state(old, self.state(copies[n]))}
            changed = tuple(copy for n, copy in copies.items() if n not in unchanged)
            rebound = tuple(self.rebound())
            try:
                self.tell(reply, (value, changed, rebound), unchanged)
            except (ValueError, TypeError, RecursionError) as error:  # too large, or nothing that may cross
                self.tell({"raised": True}, (error, (), ()), unchanged)
        finally:
            self.snapshots = outer

    def rebound(self) -> list[tuple[str, object]]:
        """What has become of the watched names, where it is another object."""
        return []

    def take_rebound(self, names: dict) -> None:
        """Take over what the other end says its rebound() are."""

    def perform(self, operation: object, *values: object) -> object:
        raise NotImplementedError

    def tell(self, message: dict, value: object, unchanged: set[int] | frozenset = frozenset()) -> None:
        message["root"], message["nodes"] = wire.pack(value, lambda v, item: self.node(v, item, unchanged))
        try:
            wire.send(self.fd, message)
        except OSError as error:
            self.gone = True
            raise wire.Closed("gone") from error

    def receive(self) -> dict:
        try:
            return wire.receive(self.fd)
        except wire.Closed:
            self.gone = True
            raise

    def is_full(self) -> bool:
        return self.depth == 0 and self.copied > MAX_COPIED

    def forget(self) -> None:
        """Between two of the tests' questions only, and at both ends."""
        for value in self.copies.values():
            self.numbers.pop(id(value), None)
        self.copies, self.copied = {}, 0

    # -- what is sent

    def node(self, value: object, item: Callable, unchanged: set[int] | frozenset) -> list:
        number = self.numbers.get(id(value))
        if number in self.theirs:
            return self.given_back(value, number, item)
        node = None if number in self.mine else wire.plain_node(value, item)
        if node is not None:
            return node
        node = wire.copied_node(value, item, number or 0, number in unchanged)
        if node is None and (name := self.shared_class(value)) is not None:
            attributes = {} if number in unchanged else attributes_of(value)
            held = None if number in unchanged else wire.items_of(list(attributes.values()), item)
            node = ["instance", held, 0, name, list(attributes)]
        if node is not None:
            node[2] = self.copy_number(value)
            return node
        if isinstance(value, BaseException):
            return self.error_node(value, item)
        if self.given.get(type(value).__name__) is type(value):
            if isinstance(value, enum.Enum):
                return ["member", [], type(value).__name__, value.name]
            if isinstance(value, tuple) and hasattr(value, "_fields"):
                return ["named", wire.items_of(tuple(value), item), type(value).__name__]
        return self.handle(value, item, unchanged)

    def given_back(self, value: object, number: int, item: Callable) -> list:
        return ["yours", [], number]

    def handle(self, value: object, item: Callable, unchanged: set[int] | frozenset) -> list:
        """The node of an object that stays here."""
        raise NotImplementedError

    def own_number(self, value: object) -> tuple[int, bool]:
        """The number of an object that stays here, and whether the other end doesn't know it yet."""
        number = self.numbers.get(id(value))
        if number is not None:
            return number, False
        number, self.next_number = self.next_number, self.next_number + 2
        self.numbers[id(value)], self.mine[number] = number, value
        return number, True

    def copy_number(self, value: object) -> int:
        number = self.numbers.get(id(value))
        if number is None:
            number, self.next_number = self.next_number, self.next_number + 2
            self.remember(value, number)
        return number

    def numbered(self, number: int) -> object:
        for known in (self.copies, self.mine, self.theirs):
            if number in known:
                return known[number]
        raise KeyError(number)

    def remember(self, value: object, number: int) -> None:
        self.numbers[id(value)], self.copies[number] = number, value
        self.copied += 1 + (len(value) if isinstance(value, wire.MUTABLE) else 0)

    def shared_class(self, value: object) -> str | None:
        """The name of the prelude's class that this is an instance of."""
        kind = type(value)
        return kind.__name__ if self.classes.get(kind.__name__) is kind else None

    def state(self, value: object) -> list:
        if self.shared_class(value) is not None:
            return [x for pair in attributes_of(value).items() for x in pair]
        return wire.state(value)

    def error_node(self, error: BaseException, item: Callable) -> list:
        number, _ = self.own_number(error)
        error.__traceback__ = None  # it would keep every frame, and what is in it
        attributes = {k: v for k, v in vars(error).items() if type(k) is str and (k[:2] != "__" or k == "__notes__")}
        values = [text_of(error), item(error.__cause__), *map(item, error.args), *map(item, attributes.values())]
        return ["error", values, number, self.error_classes(type(error)), list(attributes)]

    def error_classes(self, kind: type) -> list:
        """[name, module, names of its bases, number] of an exception class and of those that it extends."""
        kinds = [k for k in kind.__mro__ if issubclass(k, BaseException)]
        return [[k.__name__, str(k.__module__), [b.__name__ for b in k.__bases__], self.class_number(k)] for k in kinds]

    def class_number(self, kind: type) -> int | None:
        """The number of an exception class that only the candidate has."""
        raise NotImplementedError

    # -- what is received

    def unpack(self, message: dict, remember: bool = False) -> tuple:
        """The values of a message. With `remember`, note what all copies in it hold, to tell what changes."""
        try:
            values = self._unpack(message["root"], message["nodes"], remember)
            if type(values) is not tuple:
                raise TypeError("values are sent as a tuple")
            return values
        except wire.Closed:
            raise
        except BaseException as error:
            self.gone = True
            raise wire.Closed("no message") from error

    def _unpack(self, root: object, nodes: list, remember: bool) -> object:
        built: dict[int, object] = {}
        for start in range(len(nodes) - 1, -1, -1):  # most nodes lie behind those that they are in
            waiting, begun = [start], set()
            while waiting:
                place = waiting[-1]
                needs = [p for p in needed(nodes[place]) if p not in built] if place not in built else []
                if needs:
                    if place in begun:
                        raise ValueError("a value that nothing mutable is in contains itself")
                    begun.add(place)
                    waiting += needs
                    continue
                waiting.pop()
                if place not in built:
                    values = [] if is_copy(nodes[place]) else resolve(nodes[place][1], built)
                    built[place] = self.made(nodes[place], values, built)
        copies = [(node, built[place]) for place, node in enumerate(nodes) if is_copy(node) and node[1] is not None]
        # sets and dicts last: they may ask instances for their hash
        for late in (False, True):
            for node, value in copies:
                if isinstance(value, (dict, set)) is late:
                    self.update(value, node, resolve(node[1], built))
        if remember:
            for node in filter(is_copy, nodes):
                self.snapshots[node[2]] = self.state(self.numbered(node[2]))
        return built[root[0]]

    def made(self, node: list, values: list, built: dict[int, object]) -> object:
        tag, number = node[0], node[2] if len(node) > 2 else None
        if tag == "extended":
            return self.extended(node, built)
        if is_copy(node):
            if number in self.copies:
                if not self.fits(self.copies[number], node):
                    raise ValueError(f"{number} is another kind of object")
                return self.copies[number]
            self.check_new(number)
            if node[1] is None:
                raise ValueError("nothing is known of it")
            value = self.new_copy(node, built)
            self.remember(value, number)
            self.copied += len(node[1])
            return value
        if tag == "yours":
            return self.mine[number]
        if tag in ("mine", "error"):
            if number not in self.theirs:
                self.check_new(number)
                value = self.new_error(node, values) if tag == "error" else self.stand_in(node, values)
                self.numbers[id(value)], self.theirs[number] = number, value
            return self.theirs[number]
        if tag == "global":
            return self.known_global(node[2], node[3])
        if tag == "member" and isinstance(kind := self.given[node[2]], enum.EnumMeta):
            return kind[node[3]]
        if tag == "named" and issubclass(kind := self.given[node[2]], tuple) and len(values) == len(kind._fields):
            return tuple.__new__(kind, values)
        return wire.build(node, values)

    def check_new(self, number: object) -> None:
        """Whether this is a number that the other end gives, and hasn't given yet."""
        known = number in self.copies or number in self.theirs
        if type(number) is not int or known or number % 2 == self.next_number % 2:
            raise ValueError(f"number {number!r}")

    def fits(self, value: object, node: list) -> bool:
        return (self.shared_class(value) or type(value).__name__) == (node[3] if node[0] == "instance" else node[0])

    def new_copy(self, node: list, built: dict[int, object]) -> object:
        if node[0] == "instance":
            return object.__new__(self.classes[node[3]])
        value = wire.new_copy(node)
        if node[0] == "defaultdict":
            (value.default_factory,) = resolve([node[3]], built)
        return value

    def update(self, value: object, node: list, values: list) -> None:
        if node[0] == "instance":
            set_attributes(value, dict(zip(node[4], values, strict=True)))
        else:
            wire.fill(value, values)

    def extended(self, node: list, built: dict[int, object]) -> object:
        """An instance of the candidate's own extension of a mutable type: both a handle and a copy."""
        raise NotImplementedError

    def stand_in(self, node: list, values: list) -> object:
        raise NotImplementedError

    def known_global(self, module: str, name: str) -> object:
        raise NotImplementedError

    def new_error(self, node: list, values: list) -> BaseException:
        text, cause, *rest = values
        names = node[4]
        args, attributes = rest[: len(rest) - len(names)], rest[len(rest) - len(names) :]
        kind = self.error_class(node[3], text)
        try:
            error = kind(*args) if kind.__module__ == "builtins" else kind.__new__(kind, *args)
        except Exception:  # a builtin class that wants other arguments, as UnicodeDecodeError does
            error = kind.__new__(kind, *args)
        error.args = tuple(args)
        vars(error).update(zip(names, attributes, strict=True))
        if isinstance(cause, BaseException):
            error.__cause__ = cause
        return error

    def error_class(self, classes: list, text: str | None = None) -> type:
        raise NotImplementedError


def is_copy(node: list) -> bool:
    return node[0] in wire.COPIED or node[0] in ("ndarray", "instance", "extended")


def needed(node: list) -> list[int]:
    """Places of the nodes that must be there before this one can be made."""
    values = node[1]
    if is_copy(node):
        values = node[3:4] if node[0] in ("defaultdict", "extended") else []
    return [v[0] for v in values if type(v) is list]


def resolve(values: list, built: dict[int, object]) -> list:
    if list not in set(map(type, values)):
        return values
    return [built[v[0]] if type(v) is list else v for v in values]


def text_of(error: BaseException) -> str | None:
    try:
        return str(error)[:10_000]
    except BaseException:
        return None


# -- instances of the prelude's classes


def is_plain_class(kind: object) -> bool:
    """A class whose instances are their attributes: nothing built in but `object` among its bases."""
    return (
        type(kind) is type
        and all(type(k) is type and (k is object or k.__module__ != "builtins") for k in kind.__mro__)
        and kind.__flags__ & (1 << 9) != 0  # a class statement made it
        and kind.__new__ is object.__new__
        and kind.__getattribute__ is object.__getattribute__
    )


def slots_of(kind: type) -> list[str]:
    return [n for k in kind.__mro__ for n, v in vars(k).items() if isinstance(v, types.MemberDescriptorType)]


def attributes_of(value: object) -> dict[str, object]:
    found = {n: object.__getattribute__(value, n) for n in slots_of(type(value)) if _has(value, n)}
    if type(value).__dictoffset__:
        found |= object.__getattribute__(value, "__dict__")
    return found


def _has(value: object, name: str) -> bool:
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True


def set_attributes(value: object, attributes: dict[str, object]) -> None:
    """Make these its attributes, and no others; none that stands before a method of its class."""
    kind = type(value)
    slots = slots_of(kind)
    for name in slots:
        if name not in attributes and _has(value, name):
            object.__delattr__(value, name)
    fields = object.__getattribute__(value, "__dict__") if kind.__dictoffset__ else None
    if fields is not None:
        fields.clear()
    for name, held in attributes.items():
        if type(name) is not str:
            raise ValueError("an attribute without a name")
        if name in slots:
            object.__setattr__(value, name, held)
        elif fields is not None and not _answers(getattr(kind, name, None)):
            fields[name] = held


def _answers(attribute: object) -> bool:
    return callable(attribute) or hasattr(type(attribute), "__get__")
