"""Drawn cells: programs of a few lines that carry a state, most of them gated, many of them not.

A program is a list of values, each made of earlier ones. It is written as the source of a module,
which torch runs, and computed once more value by value in float64, where each can be held. Apart
from that it is known what every value is of the state before: a h_prev + b, or no such sum.
"""

from __future__ import annotations

import itertools
import linecache
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

INPUT, STEPS = 3, 5
_numbers = itertools.count()


@dataclass(eq=False)
class Made:
    """One value of a program.

    Attributes:
        name: its variable.
        source: the expression that makes it, "{0}" and so on its arguments.
        compute: the same by torch, from the module and the arguments.
        args: what it is made of.
        rule: how it is made number by number: "add", "sub", "mul", "rsub", "lerp", "where", "same"
            (the same numbers), "bend" (an activation), or "new" (anything else).
        inside: whether it is written into the expression that reads it.
        over: whether it is written over its first argument.
    """

    name: str
    source: str
    compute: Callable[..., Any]
    args: tuple[Made, ...] = ()
    rule: str = "new"
    inside: bool = False
    over: str = ""

    def __repr__(self) -> str:
        return f"{self.name} = {self.source.format(*(a.name for a in self.args))}"


@dataclass
class Values:
    """All values of a program in one run, each (batch, time, unit)."""

    series: dict[Made, list[Tensor]]
    before: list[Tensor]
    state: Tensor
    output: Tensor

    def of(self, made: Made) -> Tensor:
        """A value at all steps; of one that is larger than a state, what was made of it counts."""
        like = self.state[:, 0]
        if self.series[made][0].numel() > like.numel():
            return like[:0]
        return torch.stack([v.expand(self.state[:, 0].shape) for v in self.series[made]], 1)


@dataclass
class Program:
    """A drawn cell.

    Attributes:
        body: its values, in the order in which they are made.
        end: the state after the step.
        mix: what it is before an activation outside the whole.
        out: what is made of the state and read by the next step in its place; None if nothing is.
        parts: its modules and parameters, by name.
        lawful: whether it is one of those that have to be opened.
        lawless: whether no sum a h_prev + b of the state is in it, so that it has to be refused.
        other: the step that a line of its own makes; None if all are made in one way.
        by_value: whether the loop reaches that line through a function value, and not by a branch.
    """

    units: int
    batch: int
    seed: int
    where: str
    body: list[Made] = field(default_factory=list)
    parts: dict[str, Callable[[], Any]] = field(default_factory=dict)
    end: Made | None = None
    mix: Made | None = None
    out: Made | None = None
    lawful: bool = True
    lawless: bool = False
    words: list[str] = field(default_factory=list)
    other: int | None = None
    by_value: bool = False

    def __post_init__(self) -> None:
        self.x = Made("x", "x", lambda m: None)
        self.h = Made("h", "h", lambda m: None)
        self.mask = Made("mask", "mask", lambda m: None)
        self.read = self.h

    def two(self) -> None:
        """Let what is made of the state be read in its place."""
        self.read = Made("y", "y", lambda m: None)

    def __repr__(self) -> str:
        return f"{' '.join(self.words)} (batch {self.batch}, units {self.units})\n{self.text()}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    # ----------------------------------------------------------------------------- as code

    def text(self) -> str:
        """Its source."""
        uses = Counter(arg for made in self.body for arg in made.args)
        uses[self.end] += 1
        uses[self.out] += 1
        said: dict[Made, str] = {v: v.name for v in (self.x, self.h, self.mask, self.read)}
        lines = []
        for made in self.body:
            source = made.source
            args = [said[arg] for arg in made.args]
            if made.over and self._can_write(made, uses):
                source = made.over
            text = source.format(*args)
            number = not made.args and source[0].isdigit()
            if number or (made.inside and uses[made] == 1 and made not in (self.end, self.out)):
                said[made] = text if number else f"({text})"
            else:
                said[made] = made.name
                lines.append(f"{made.name} = {text}")
        end = said[self.end]  # type: ignore[index]
        head = ["class Drawn(nn.Module):"]
        start = "    h = y = x.new_zeros(len(x), UNITS); states = []"
        out = end if self.out is None else said[self.out]
        if self.where == "inline":
            last = [f"h = {end}", f"y = {out}", "states.append(y)"]
            body = [f"        {line}" for line in [*lines, *last]]
            loop = ["    for x, mask in zip(x.unbind(1), mask.unbind(1)):", *body]
            if self.other is not None:
                loop = ["    for t, (x, mask) in enumerate(zip(x.unbind(1), mask.unbind(1))):",
                        *self._branch(), *(f"  {line}" for line in body)]  # fmt: skip
            return "\n".join([*head, "  def forward(self, x, mask):", start, *loop,
                              "    return torch.stack(states, 1)"])  # fmt: skip
        step = ["  def step(self, x, h, y, mask):", *(f"    {line}" for line in lines),
                f"    return {end}, {out}"]  # fmt: skip
        last = ["        h, y = self.step(x[:, t], h, y, mask[:, t])", "        states.append(y)"]
        branch = [] if self.other is None else self._branch()
        if self.by_value:
            step += ["  def other(self, x, h, y, mask):", "    h = torch.tanh(h + 1)",
                     "    return h, h"]  # fmt: skip
            branch = []
            last[:1] = [f"        step = self.other if t == {self.other} else self.step",
                        "        h, y = step(x[:, t], h, y, mask[:, t])"]  # fmt: skip
        loop = ["    for t in range(x.shape[1]):", *branch,
                *(f"  {line}" if branch else line for line in last)]  # fmt: skip
        return "\n".join([*head, *step, "  def forward(self, x, mask):", start, *loop,
                          "    return torch.stack(states, 1)"])  # fmt: skip

    def _branch(self) -> list[str]:
        return [f"        if t == {self.other}:", "          h = y = torch.tanh(h + 1)",
                "          states.append(y)", "        else:"]  # fmt: skip

    def _can_write(self, made: Made, uses: Counter[Made | None]) -> bool:
        first = made.args[0]
        fresh = first.rule in ("add", "sub", "mul", "rsub") and first.args and first in self.body
        return bool(fresh and uses[first] == 1 and self._is_whole(first))

    def _is_whole(self, made: Made) -> bool:
        """Whether a value is surely as large as a state."""
        if made in (self.x, self.h, self.read):
            return True
        return made.rule != "same" and any(self._is_whole(arg) for arg in made.args)

    def module(self) -> nn.Module:
        """The module that torch runs."""
        name = f"drawn_{next(_numbers)}.py"
        text = self.text()
        linecache.cache[name] = (len(text), None, [f"{one}\n" for one in text.split("\n")], name)
        space: dict[str, Any] = {
            "__name__": "drawn",
            "nn": nn,
            "torch": torch,
            "F": F,
            "UNITS": self.units,
        }
        exec(compile(text, name, "exec"), space)
        torch.manual_seed(self.seed)
        module: nn.Module = space["Drawn"]()
        for part, build in self.parts.items():
            setattr(module, part, build())
        return module

    def given(self) -> tuple[Tensor, Tensor]:
        """Its input, and a mask."""
        torch.manual_seed(self.seed + 1)
        x = torch.randn(self.batch, STEPS, INPUT)
        x[0, :2, 0] = x[0, :2, 0].abs() * torch.tensor([1, -1])  # of two laws both are taken
        return x, (torch.rand(self.batch, STEPS, 1) > 0.4).float()

    # ------------------------------------------------------------------------- by itself

    def values(
        self,
        module: nn.Module,
        x: Tensor,
        mask: Tensor,
        hold: tuple[Made, int, float] | None = None,
    ) -> Values:
        """Every value at every step; `hold` is a value, a unit, and a number in steps 1 and 2."""
        h = y = x.new_zeros(len(x), self.units)
        series: dict[Made, list[Tensor]] = {made: [] for made in (*self.body, self.mask)}
        states, before, outputs = [], [], []
        for t in range(x.shape[1]):
            now: dict[Made, Any] = {
                self.x: x[:, t], self.read: y, self.h: h, self.mask: mask[:, t]
            }  # fmt: skip
            before.append(h)
            for made in (self.mask, *self.body):
                value = now[made] if made is self.mask else made.compute(
                    module, *(now[arg] for arg in made.args)
                )  # fmt: skip
                value = torch.as_tensor(value, dtype=h.dtype)
                if hold is not None and hold[0] is made and t in (1, 2):
                    value = value.expand(h.shape).clone()
                    value[:, hold[1]] = hold[2]
                now[made] = value
                series[made].append(value)
            h = now[self.end]  # type: ignore[index]
            y = h if self.out is None else now[self.out]
            states.append(h)
            outputs.append(y)
        return Values(series, before, torch.stack(states, 1), torch.stack(outputs, 1))

    def forms(self, values: Values) -> list[tuple[Tensor, Tensor]]:
        """The shares a and b, (batch, time, unit), by which the mix is a sum of the state before.

        The state may be read as it is, or through an activation. There may be no such sum at all.
        """
        read = [m for m in self.body if m.rule == "bend" and m.args[0] is self.h]
        found = []
        for base in (self.h, *read):
            steps = [self._form(values, t, base) for t in range(STEPS)]
            if all(step is not None for step in steps):
                a, b = zip(*steps, strict=True)  # type: ignore[arg-type]
                found.append((torch.stack(a, 1), torch.stack(b, 1)))
        return found

    def _form(self, values: Values, t: int, base: Made) -> tuple[Tensor, Tensor] | None:
        like = values.before[t]
        one, zero = torch.ones_like(like), torch.zeros_like(like)
        known: dict[Made, tuple[Tensor, Tensor] | None] = {base: (one, zero)}

        def of(made: Made) -> tuple[Tensor, Tensor] | None:
            if made not in known:
                known[made] = worked(made)
            return known[made]

        def plain(made: Made) -> tuple[Tensor, Tensor] | None:
            if made in (self.x, self.read):
                return None  # read by products and activations alone
            value = like if made is self.h else values.series[made][t]
            return zero, value.expand(like.shape)

        def times(one: Any, other: Any) -> Any:
            if one is None or other is None or (one[0].any() and other[0].any()):
                return None
            return one[0] * other[1] + one[1] * other[0], one[1] * other[1]

        def plus(one: Any, other: Any, sign: float = 1) -> Any:
            if one is None or other is None:
                return None
            return one[0] + sign * other[0], one[1] + sign * other[1]

        def worked(made: Made) -> tuple[Tensor, Tensor] | None:
            rule = made.rule
            if made in (self.x, self.h, self.mask) or rule in ("new", "bend"):
                return plain(made)
            args = [of(arg) for arg in made.args]
            if rule == "same":
                return args[0]
            if rule in ("add", "sub"):
                return plus(args[0], args[1], 1 if rule == "add" else -1)
            if rule == "rsub":
                return plus((zero, one), args[0], -1)
            if rule == "mul":
                return times(args[0], args[1])
            if rule == "lerp":
                start, end, weight = args
                return plus(start, times(weight, plus(end, start, -1)))
            if rule == "where":
                condition, yes, no = args
                return plus(times(condition, yes), times(plus((zero, one), condition, -1), no))
            raise AssertionError(rule)

        assert self.mix is not None
        return of(self.mix)


# ------------------------------------------------------------------------------- drawing


class Drawing:
    """Adds values to a program, each written in one of the ways in which people write it."""

    def __init__(self, draw: st.DrawFn, program: Program) -> None:
        self.draw, self.program = draw, program

    def pick(self, *ways: Any) -> Any:
        return self.draw(st.sampled_from(ways))

    def chance(self) -> bool:
        return self.draw(st.booleans())

    def made(
        self, source: str, compute: Callable[..., Any], *args: Made, rule: str = "new",
        over: str = "",
    ) -> Made:  # fmt: skip
        name = f"v{len(self.program.body)}"
        inside = self.chance()
        over = over if over and self.chance() else ""
        one = Made(name, source, compute, args, rule, inside, over)
        self.program.body.append(one)
        return one

    def part(self, build: Callable[[], Any]) -> str:
        name = f"p{len(self.program.parts)}"
        self.program.parts[name] = build
        return name

    def said(self, word: str) -> None:
        self.program.words.append(word)

    # arithmetic

    def number(self, value: float) -> Made:
        return self.made(f"{value}", lambda m: value)

    def add(self, a: Made, b: Made) -> Made:
        source = self.pick("{0} + {1}", "torch.add({0}, {1})", "{1} + {0}")
        over = "{0}.add_({1})" if self._whole(a) else ""
        return self.made(source, lambda m, a, b: a + b, a, b, rule="add", over=over)

    def sub(self, a: Made, b: Made) -> Made:
        source = self.pick("{0} - {1}", "torch.sub({0}, {1})")
        return self.made(source, lambda m, a, b: a - b, a, b, rule="sub")

    def mul(self, a: Made, b: Made) -> Made:
        source = self.pick("{0} * {1}", "torch.mul({0}, {1})", "{1} * {0}")
        if "torch" in source and self._is_number(a):
            a, b = b, a
        over = "{0}.mul_({1})" if self._whole(a) else ""
        return self.made(source, lambda m, a, b: a * b, a, b, rule="mul", over=over)

    def rest(self, a: Made) -> Made:
        """1 - a."""
        if self._is_number(a):
            return self.number(round(1 - float(a.source), 6))
        source = self.pick("1 - {0}", "1.0 - {0}", "1 + -{0}", "torch.rsub({0}, 1)")
        return self.made(source, lambda m, a: 1 - a, a, rule="rsub")

    def same(self, a: Made) -> Made:
        """The same numbers, laid out again."""
        source = self.pick(
            "{0}.view(len(h), -1)", "{0}.unsqueeze(1).squeeze(1)", "{0}.contiguous()",
            "{0}.clone()", "torch.cat([{0}, h], 1).chunk(2, 1)[0]", "{0}[:]",
            "F.dropout({0}, 0.5, False)", "torch.stack([{0}, h])[0]", "{0}.to(h.dtype)",
            "torch.cat([{0}, h], 1)[:, :UNITS]",
        )  # fmt: skip
        return self.made(source, lambda m, a: a, a, rule="same")

    def _is_number(self, a: Made) -> bool:
        return not a.args and a.source[0].isdigit()

    def _whole(self, a: Made) -> bool:
        return a in self.program.body and not self._is_number(a)

    # parts of a cell

    def product(self, a: Made) -> Made:
        width = INPUT if a is self.program.x else self.program.units
        units = self.program.units
        name = self.part(lambda: nn.Linear(width, units))
        return self.made(f"self.{name}({{0}})", lambda m, a: getattr(m, name)(a), a)

    def norm(self, a: Made) -> Made:
        units = self.program.units
        name = self.part(lambda: nn.LayerNorm(units))
        return self.made(f"self.{name}({{0}})", lambda m, a: getattr(m, name)(a), a, rule="bend")

    def parameter(self) -> Made:
        units = self.program.units
        name = self.part(lambda: nn.Parameter(torch.randn(units)))
        return self.made(f"self.{name}", lambda m: getattr(m, name))

    def before(self, read: Made | None) -> Made:
        """What an activation is given."""
        total = self.product(self.program.x)
        if read is not None:
            kind = self.pick("product", "product", "product", "by unit", "both")
            if kind != "by unit":
                total = self.add(total, self.product(read))
            if kind != "product":
                total = self.add(total, self.mul(self.parameter(), read))
        return self.norm(total) if self.pick(False, False, True) else total

    def sigmoid(self, a: Made) -> Made:
        source = self.pick("torch.sigmoid({0})", "{0}.sigmoid()", "F.sigmoid({0})")
        return self.made(
            source, lambda m, a: torch.sigmoid(a), a, rule="bend", over="{0}.sigmoid_()"
        )

    def gate(self, fixed: bool = True) -> Made:
        """A share of the state, or of a candidate."""
        p = self.program
        kinds = ["sigmoid", "sigmoid", "sigmoid", "input", "hard", "hardsigmoid", "decay", "twice",
                 "joined", "mask", "noted"]  # fmt: skip
        kind = self.pick(*kinds, *(["number", "learned"] if fixed else []))
        self.said(kind)
        if kind == "number":
            return self.number(self.pick(0.3, 0.5, 0.9))
        if kind == "learned":
            return self.sigmoid(self.parameter())
        if kind == "mask":
            return p.mask
        if kind == "decay":
            inner = self.made("torch.relu({0})", lambda m, a: torch.relu(a), self.product(p.x))
            return self.made("torch.exp(-{0})", lambda m, a: torch.exp(-a), inner, rule="bend")
        if kind == "input":
            return self.sigmoid(self.before(None))
        total = self.before(p.read)
        if kind == "hard":
            scaled = self.add(self.mul(total, self.number(0.2)), self.number(0.5))
            return self.made(self.pick("{0}.clamp(0, 1)", "torch.clamp({0}, min=0.0, max=1.0)"),
                             lambda m, a: a.clamp(0, 1), scaled, rule="bend")  # fmt: skip
        if kind == "hardsigmoid":
            return self.made(
                "F.hardsigmoid({0})", lambda m, a: F.hardsigmoid(a), total, rule="bend"
            )
        if kind == "twice":
            return self.mul(self.sigmoid(total), self.sigmoid(self.before(p.read)))
        if kind == "joined":
            both = self.made(
                "torch.cat([{0}, {1}], 1).sigmoid()",
                lambda m, a, b: torch.cat([a, b], 1).sigmoid(),
                total,
                self.before(p.read),
            )
            both.inside = False
            n = self.pick(0, 1)
            ways = (
                "{0}.chunk(2, 1)",
                "{0}.split(UNITS, 1)",
                "{0}.unflatten(1, (2, UNITS)).unbind(1)",
            )
            source = f"{self.pick(*ways)}[{n}]"
            return self.made(source, lambda m, a: a.chunk(2, 1)[n], both)
        return self.sigmoid(total)

    def candidate(self) -> Made:
        """What is new in a step."""
        p = self.program
        kind = self.pick("reset before", "reset behind", "plain", "input")
        self.said(kind)
        if kind == "input":
            total = self.product(p.x)
        elif kind == "plain":
            total = self.before(p.read)
        elif kind == "reset before":
            total = self.before(self.mul(self.gate(False), p.read))
        else:
            total = self.add(self.product(p.x), self.mul(self.gate(False), self.product(p.read)))
        bend = self.pick("tanh", "tanh", "relu", "", "softsign")
        if not bend:
            return total
        source = {"tanh": self.pick("torch.tanh({0})", "{0}.tanh()"), "relu": "torch.relu({0})",
                  "softsign": "F.softsign({0})"}[bend]  # fmt: skip
        function = {"tanh": torch.tanh, "relu": torch.relu, "softsign": F.softsign}[bend]
        return self.made(source, lambda m, a: function(a), total, rule="bend")

    def old(self) -> Made:
        """The state before, or what is left of it."""
        kind = self.pick("as it is", "as it is", "as it is", "decayed", "masked", "laid out")
        self.said(kind)
        h = self.program.h
        if kind == "decayed":
            return self.mul(self.gate(), h)
        if kind == "masked":
            return self.mul(h, self.rest(self.program.mask))
        return self.same(h) if kind == "laid out" else h

    def mix(self, old: Made, new: Made) -> Made:
        """The state after."""
        kind = self.pick("convex", "turned", "difference", "change", "lerp", "affine", "wrong",
                         "sum", "where", "ode")  # fmt: skip
        self.said(kind)
        mul, add, rest = self.mul, self.add, self.rest
        if kind == "where":
            condition = self.made("{0} > 0.5", lambda m, a: a > 0.5, self.program.mask)
            source = self.pick("torch.where({0}, {1}, {2})", "{1}.where({0}, {2})")
            return self.made(source, lambda m, c, a, b: torch.where(c.bool(), a, b),
                             condition, old, new, rule="where")  # fmt: skip
        z = self.gate()
        if kind == "convex":
            return add(mul(z, old), mul(rest(z), new))
        if kind == "turned":
            return add(mul(new, z), mul(old, rest(z)))
        if kind == "difference":
            return add(new, mul(z, self.sub(old, new)))
        if kind == "change":
            return add(old, mul(z, self.sub(new, old)))
        if kind == "ode":
            return add(old, mul(self.number(0.1), mul(rest(z), self.sub(new, old))))
        if kind == "lerp":
            source = "torch.lerp({0}, {1}, {2})" if self._is_number(z) else "{0}.lerp({1}, {2})"
            if z is self.program.mask:
                z = self.made("{0}.expand(-1, UNITS)", lambda m, a: a, z, rule="same")
            return self.made(source, lambda m, a, b, w: a + w * (b - a), old, new, z, rule="lerp")
        if kind == "affine":
            return add(mul(z, old), mul(self.gate(), new))
        if kind == "sum":
            return add(mul(z, old), new)
        other = self.pick("0.9 - {0}", "1.1 - {0}")
        share = self.made(other, lambda m, a: float(other[:3]) - a, z)
        return add(mul(z, old), mul(share, new))

    def nested(self) -> Made:
        """A mix, or a mix of mixes."""
        depth = self.pick(1, 1, 1, 2)
        made = self.old()
        for _ in range(depth):
            made = self.mix(made, self.candidate())
        if self.pick(False, False, False, True):
            self.said("zoneout")
            made = self.add(self.mul(self.number(0.2), self.program.h),
                            self.mul(self.number(0.8), made))  # fmt: skip
        return made

    def bent(self, mix: Made) -> Made:
        """What stands outside the whole."""
        kind = self.pick("", "", "", "clamp", "tanh", "norm", "same")
        self.said(f"outside {kind}" if kind else "")
        if kind == "clamp":
            return self.made(
                "{0}.clamp(-0.7, 0.7)", lambda m, a: a.clamp(-0.7, 0.7), mix, rule="bend"
            )
        if kind == "tanh":
            return self.made("torch.tanh({0})", lambda m, a: torch.tanh(a), mix, rule="bend")
        if kind == "norm":
            return self.norm(mix)
        return self.same(mix) if kind == "same" else mix

    def output(self, state: Made) -> Made:
        """What is made of the state at the end of a step."""
        gate = self.gate(False) if self.pick(True, True, False) else None
        bend = self.pick("tanh", "tanh", "", "norm") if gate is not None else "tanh"
        self.said(f"out {bend}")
        if bend == "norm":
            state = self.norm(state)
        elif bend:
            state = self.made("torch.tanh({0})", lambda m, a: torch.tanh(a), state, rule="bend")
        return state if gate is None else self.mul(gate, state)

    # what obeys no such form

    def lawless(self) -> Made:
        """A state that is carried another way."""
        p, n = self.program, self.candidate()
        h, units = p.h, p.units
        kind = self.pick("square", "power", "product of sums", "matrix", "plain", "rolled",
                         "turned", "mean", "read bent", "gate of itself", "quotient", "larger",
                         "chosen", "shuffled", "across", "two laws")  # fmt: skip
        self.said(f"lawless: {kind}")
        p.lawful = False
        z = self.gate(False)
        p.lawless = kind in ("matrix", "plain", "rolled", "mean", "shuffled", "square")
        if kind == "square":
            kept = self.mul(self.mul(h, h), self.number(0.5))
        elif kind == "power":
            kept = self.made(self.pick("{0} ** 2", "{0}.pow(2)", "torch.square({0})"),
                             lambda m, a: a**2, h, rule="bend")  # fmt: skip
        elif kind == "product of sums":
            kept = self.mul(self.add(h, n), self.add(self.mul(h, self.number(0.5)), n))
        elif kind == "matrix":
            kept = self.product(h)
        elif kind == "plain":
            return self.made("torch.tanh({0})", lambda m, a: torch.tanh(a),
                             self.add(self.product(p.x), self.product(h)), rule="bend")  # fmt: skip
        elif kind == "rolled":
            kept = self.made(self.pick("{0}.roll(1, 1)", "torch.roll({0}, 1, 1)"),
                             lambda m, a: a.roll(1, 1), h)  # fmt: skip
        elif kind == "turned":
            if p.batch != units:
                kept = self.made("{0}.flip(1)", lambda m, a: a.flip(1), h)
            else:
                kept = self.made("{0}.t()", lambda m, a: a.t(), h)
        elif kind == "mean":
            kept = self.made("{0}.mean(1, keepdim=True)", lambda m, a: a.mean(1, keepdim=True), h)
        elif kind == "read bent":
            kept = self.made("torch.tanh({0})", lambda m, a: torch.tanh(a), h, rule="bend")
        elif kind == "gate of itself":
            kept = self.mul(self.sigmoid(self.mul(h, self.number(0.5))), h)
        elif kind == "quotient":
            kept = self.made("{0} / (1 + {0}.abs())", lambda m, a: a / (1 + a.abs()), h)
        elif kind == "larger":
            kept = self.made("torch.maximum({0}, {1})", torch_maximum, h, n)
        elif kind == "chosen":
            condition = self.made("{0} > {1}", lambda m, a, b: a > b, h, n)
            return self.made("torch.where({0}, {1}, {2})",
                             lambda m, c, a, b: torch.where(c.bool(), a, b),
                             condition, self.mul(z, h), n, rule="where")  # fmt: skip
        elif kind == "shuffled":
            order = [*range(1, units), 0]
            kept = self.made(f"{{0}}[:, {order}]", lambda m, a: a[:, order], h)
        elif kind == "across":
            kept = self.made("{0}.reshape(UNITS, -1).t().reshape({0}.shape)",
                             lambda m, a: a.reshape(units, -1).t().reshape(a.shape), h)  # fmt: skip
        else:
            # another law in every other step: by what is in the input, not by its shape
            return self.made("{1} * {0} if bool({2}[0, 0] > 0) else {3}",
                             lambda m, a, b, x, n: b * a if bool(x[0, 0] > 0) else n,
                             h, z, p.x, n)  # fmt: skip
        rest = self.rest(z) if self.chance() else self.gate(False)
        return self.add(self.mul(z, kept), self.mul(rest, n))


def torch_maximum(m: Any, a: Tensor, b: Tensor) -> Tensor:
    return torch.maximum(a, b)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A cell; two in three are gated."""
    units, batch = draw(st.sampled_from([(4, 3), (4, 4), (5, 1), (3, 3), (4, 2)]))
    where = draw(st.sampled_from(["inline", "method"]))
    program = Program(units, batch, draw(st.integers(0, 999)), where)
    drawing = Drawing(draw, program)
    if draw(st.integers(0, 2)):
        if two := draw(st.sampled_from([False, False, True])):
            program.two()
        program.mix = drawing.nested()
        program.end = drawing.bent(program.mix)
        if two:
            program.out = drawing.output(program.end)
        # what only adds up, by no gate that a step makes and with no way back, is no cell
        program.lawful = not {"number", "learned"} & set(program.words)
    else:
        program.mix = program.end = drawing.lawless()
    if draw(st.integers(0, 9)) == 9:
        program.other = draw(st.sampled_from([0, 2, STEPS - 1]))
        program.by_value = where == "method" and draw(st.booleans())
        drawing.said(f"step {program.other} by another line")
    return program
