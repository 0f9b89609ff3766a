"""The part of CloudWatch's metric math that this project's dashboards use.

Source: "Using math expressions with CloudWatch metrics" in the CloudWatch user guide.
"""

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence

Points = dict[int, float]
"""Values by the start of their period, in seconds since 1970; periods without data are absent."""
Value = Points | float
FUNCTIONS = ("ABS", "AVG", "CEIL", "FILL", "FLOOR", "IF", "MAX", "METRICS", "MIN", "SUM")

_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.BitXor: operator.pow,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_EACH: Mapping[str, Callable[[float], float]] = {"ABS": abs, "CEIL": math.ceil, "FLOOR": math.floor}
_OVER: Mapping[str, Callable[[Sequence[float]], float]] = {
    "SUM": math.fsum,
    "AVG": lambda values: math.fsum(values) / len(values),
    "MAX": max,
    "MIN": min,
}


class MathError(ValueError):
    """An expression is invalid, or uses unsupported metric math; the message says which part."""


def evaluate(expression: str, values: Mapping[str, Points], metrics: Collection[str] | None = None) -> Points:
    """Return the values of an expression over other values, which it names by ID; raise MathError.

    metrics: IDs that METRICS() stands for; None for all.
    If one side of an operation has no value in a period, neither has the result. Division by zero gives no value.
    """
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise MathError(f"{expression!r} is not a valid expression: {error.msg}") from error
    result = _Evaluation(expression, values, values if metrics is None else metrics).value(tree)
    if isinstance(result, float):
        periods = {period for points in values.values() for period in points}
        return dict.fromkeys(sorted(periods), result)
    return dict(sorted(result.items()))


class _Evaluation:
    def __init__(self, expression: str, values: Mapping[str, Points], metrics: Collection[str]) -> None:
        self._expression, self._values, self._metrics = expression, values, metrics

    def value(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return self._named(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _combine(operator.mul, -1.0, self.value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _combine(_OPERATORS[type(op)], self.value(left), self.value(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                compare = _COMPARISONS[type(op)]
                return _combine(lambda a, b: float(compare(a, b)), self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments)
        raise self._refusal(ast.unparse(node))

    def _named(self, name: str) -> Points:
        if name not in self._values:
            raise MathError(f"{self._expression!r} uses unknown ID {name}; known IDs: {', '.join(self._values)}")
        return self._values[name]

    def _call(self, name: str, arguments: list[ast.expr]) -> Value:
        match name, arguments:
            case "IF", [condition, then]:
                return self._if(condition, then, None)
            case "IF", [condition, then, otherwise]:
                return self._if(condition, then, otherwise)
            case "FILL", [series, default]:
                return self._fill(self.value(series), self.value(default))
            case _, [argument] if name in _EACH:
                each = self.value(argument)
                return {t: float(_EACH[name](v)) for t, v in _spread(each, self._periods()).items()}
            case _, [argument] if name in _OVER:
                return self._over(name, argument)
        raise self._refusal(f"{name} with {len(arguments)} arguments")

    def _if(self, condition: ast.expr, then: ast.expr, otherwise: ast.expr | None) -> Value:
        chosen = _spread(self.value(condition), self._periods())
        yes = _spread(self.value(then), list(chosen))
        no = {} if otherwise is None else _spread(self.value(otherwise), list(chosen))
        picked = {period: (yes if true else no).get(period) for period, true in chosen.items()}
        return {period: value for period, value in picked.items() if value is not None}

    def _fill(self, series: Value, default: Value) -> Points:
        periods = self._periods()
        filled, base = _spread(series, periods), _spread(default, periods)
        return {**base, **filled}

    def _over(self, name: str, argument: ast.expr) -> Value:
        """Aggregate several metrics per period in which any has a value, or one metric over all periods."""
        match argument:
            case ast.Call(func=ast.Name(id="METRICS"), args=parts, keywords=[]):
                series = [self._values[id] for id in self._metrics if self._selected(id, parts)]
            case ast.List(elts=elements):
                series = [_spread(self.value(element), self._periods()) for element in elements]
            case _:
                values = list(_spread(self.value(argument), self._periods()).values())
                return float(_OVER[name](values)) if values else {}
        periods = {period for points in series for period in points}
        return {period: _OVER[name]([points[period] for points in series if period in points]) for period in periods}

    def _selected(self, id: str, parts: list[ast.expr]) -> bool:
        match parts:
            case []:
                return True
            case [ast.Constant(value=str() as part)]:
                return part in id
        raise self._refusal("METRICS with anything but one string")

    def _periods(self) -> list[int]:
        return sorted({period for points in self._values.values() for period in points})

    def _refusal(self, part: str) -> MathError:
        known = ", ".join(FUNCTIONS)
        return MathError(
            f"{self._expression!r}: {part} is not supported here; supported are + - * / ^, comparisons, {known}"
        )


def _spread(value: Value, periods: Sequence[int]) -> Points:
    return dict.fromkeys(periods, value) if isinstance(value, float) else value


def _combine(operation: Callable[[float, float], float], left: Value, right: Value) -> Value:
    if isinstance(left, float) and isinstance(right, float):
        number = _guarded(operation, left, right)
        return {} if number is None else number
    periods = [period for side in (left, right) if not isinstance(side, float) for period in side]
    a, b = _spread(left, periods), _spread(right, periods)
    results = {period: _guarded(operation, a[period], b[period]) for period in periods if period in a and period in b}
    return {period: value for period, value in results.items() if value is not None}


def _guarded(operation: Callable[[float, float], float], left: float, right: float) -> float | None:
    try:
        result = operation(left, right)
    except (ZeroDivisionError, OverflowError):
        return None
    return result if not isinstance(result, complex) and math.isfinite(result) else None
