"""Compiled loops that take blocks of a tensor through the gates of a pass, on the CPU.

A block has the entries of the window's sites, its *rows*, for LANES positions of the other sites, and is kept as
(rows, LANES) in a buffer that fits the cache. So whatever sites a gate acts on, the innermost loop runs over contiguous
numbers, and becomes vector instructions.

Numba compiles these functions at the first call for a dtype and stores the result in its cache; no compiler is needed.
They are one file because that cache does not notice a change in another one. They release the interpreter lock:
`adtn.native` runs them in threads on disjoint ranges of chunks, a *chunk* being the blocks of LANES neighbouring
positions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import njit
from numpy.typing import NDArray

LANES = 16
"""Positions in a block: one vector register of float32 with AVX-512, two with AVX2."""

ACTIVATIONS = {"none": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "gelu": 4}
"""Codes by which the loops know an activation."""

LEAKY_SLOPE = 0.01
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_OVER_PI = math.sqrt(0.5 / math.pi)

_TILE = 8
"""Rows of memory that a transposing copy reads at once; more would fall into the same set of the first-level cache."""

Vector = NDArray[Any]


class Sweep(NamedTuple):
    """A pass, as the loops need it: (left, before, right) -> (left, after, right).

    Args:
        left: Entries of the sites before the window.
        before: Rows of a block before the gates.
        after: Rows of a block after them.
        right: Entries of the sites after the window.
        activation: Code of what is applied first.
        gates: One row a gate: start of its numbers, out, into, left and right inside the block.
    """

    left: int
    before: int
    after: int
    right: int
    activation: int
    gates: Vector


class _Place(NamedTuple):
    """Where a tile of a gate finds its rows: those of x begin at `x`, those of y at `y`, `times` times over.

    Args:
        x: Start of the first row of x.
        y: Start of the first row of y.
        x_pitch: From there to the start of the next time.
        y_pitch: The same in y.
        times: How often.
        width: Length of a row.
    """

    x: int
    y: int
    x_pitch: int
    y_pitch: int
    times: int
    width: int


def _compiled(function: Callable[..., Any]) -> Any:
    try:
        return _njit(cache=True)(function)
    except RuntimeError:  # there is nowhere to store it: every process compiles
        return _njit(cache=False)(function)


def _njit(cache: bool) -> Any:
    return njit(cache=cache, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@_compiled
def forward(x: Vector, y: Vector, gates: Vector, sweep: Sweep, chunks: tuple[int, int], buffers: Vector) -> None:
    """Apply a pass: y = gates f(x).

    Args:
        x: (items, left, before, right), flat.
        y: (items, left, after, right), flat; may be `x` where before == after.
        gates: (items, numbers): those of all gates.
        sweep: The pass.
        chunks: First chunk, and one past the last.
        buffers: (2, entries of the largest block).
    """
    positions = sweep.left * sweep.right
    per_item = (positions + LANES - 1) // LANES
    for chunk in range(chunks[0], chunks[1]):
        item = chunk // per_item
        first = (chunk - item * per_item) * LANES
        lanes = min(LANES, positions - first)
        _gather(x, item * positions + first, sweep.before, sweep.right, lanes, buffers[0])
        if sweep.activation:
            _activate(buffers[0], buffers[0], sweep.before * LANES, sweep.activation)
        now = 0
        for i in range(len(sweep.gates)):
            _apply(buffers[now], buffers[1 - now], gates[item], sweep.gates[i], False)
            now = 1 - now
        _scatter(y, item * positions + first, sweep.after, sweep.right, lanes, buffers[now])


@_compiled
def backward(
    tensors: tuple[Vector, Vector, Vector],
    gates: Vector,
    grad_gates: Vector,
    sweep: Sweep,
    chunks: tuple[int, int],
    buffers: Vector,
) -> None:
    """Differentiate a pass: turn the gradient of y into that of x, and add up that of the gates.

    Args:
        tensors: x as in `forward`; the gradient of y; that of x, to write, which may be that of y if before == after.
        gates: (items, numbers): those of all gates.
        grad_gates: (items, numbers) in float64, added to.
        sweep: The pass.
        chunks: First chunk, and one past the last.
        buffers: (gates of the pass + 3, entries of the largest block).
    """
    x, grad, grad_x = tensors
    positions = sweep.left * sweep.right
    per_item = (positions + LANES - 1) // LANES
    count = len(sweep.gates)
    raw = count + 2 if sweep.activation else 0
    for chunk in range(chunks[0], chunks[1]):
        item = chunk // per_item
        first = (chunk - item * per_item) * LANES
        lanes = min(LANES, positions - first)
        _gather(x, item * positions + first, sweep.before, sweep.right, lanes, buffers[raw])
        if sweep.activation:
            _activate(buffers[raw], buffers[0], sweep.before * LANES, sweep.activation)
        for i in range(count - 1):
            _apply(buffers[i], buffers[i + 1], gates[item], sweep.gates[i], False)
        now, other = count, count + 1
        _gather(grad, item * positions + first, sweep.after, sweep.right, lanes, buffers[now])
        for i in range(count - 1, -1, -1):
            _outer(buffers[i], buffers[now], grad_gates[item], sweep.gates[i])
            _apply(buffers[now], buffers[other], gates[item], sweep.gates[i], True)
            now, other = other, now
        if sweep.activation:
            _activate_backward(buffers[raw], buffers[now], sweep.before * LANES, sweep.activation)
        _scatter(grad_x, item * positions + first, sweep.before, sweep.right, lanes, buffers[now])


@_compiled
def _gather(x: Vector, position: int, rows: int, right: int, lanes: int, block: Vector) -> None:
    """Read the block of the positions from `position` on; lanes that are left over become 0."""
    start = position // right * rows * right + position % right
    if lanes == LANES and right % LANES == 0:
        for k in range(rows):
            source = x[start + k * right : start + k * right + LANES]
            target = block[k * LANES : (k + 1) * LANES]
            for j in range(LANES):
                target[j] = source[j]
    elif lanes == LANES and right == 1 and rows % _TILE == 0:
        _gather_transposed(x, start, rows, block)
    else:
        for j in range(lanes):
            start = (position + j) // right * rows * right + (position + j) % right
            for k in range(rows):
                block[k * LANES + j] = x[start + k * right]
        for k in range(rows):
            block[k * LANES + lanes : (k + 1) * LANES] = 0


@_compiled
def _gather_transposed(x: Vector, start: int, rows: int, block: Vector) -> None:
    """Read (LANES, rows), contiguous from `start` on."""
    for j0 in range(0, LANES, _TILE):
        for k0 in range(0, rows, _TILE):
            corner = start + j0 * rows + k0
            for k in range(_TILE):
                for j in range(_TILE):
                    block[(k0 + k) * LANES + j0 + j] = x[corner + j * rows + k]


@_compiled
def _scatter(y: Vector, position: int, rows: int, right: int, lanes: int, block: Vector) -> None:
    """Write the block of the positions from `position` on."""
    start = position // right * rows * right + position % right
    if lanes == LANES and right % LANES == 0:
        for k in range(rows):
            source = block[k * LANES : (k + 1) * LANES]
            target = y[start + k * right : start + k * right + LANES]
            for j in range(LANES):
                target[j] = source[j]
    elif lanes == LANES and right == 1 and rows % _TILE == 0:
        _scatter_transposed(y, start, rows, block)
    else:
        for j in range(lanes):
            start = (position + j) // right * rows * right + (position + j) % right
            for k in range(rows):
                y[start + k * right] = block[k * LANES + j]


@_compiled
def _scatter_transposed(y: Vector, start: int, rows: int, block: Vector) -> None:
    """Write (LANES, rows), contiguous from `start` on."""
    for j0 in range(0, LANES, _TILE):
        for k0 in range(0, rows, _TILE):
            corner = start + j0 * rows + k0
            for j in range(_TILE):
                for k in range(_TILE):
                    y[corner + j * rows + k] = block[(k0 + k) * LANES + j0 + j]


@_compiled
def _apply(x: Vector, y: Vector, gates: Vector, gate: Vector, transposed: bool) -> None:
    """y[l, p, r] = sum over q of gate[p, q] x[l, q, r]; the transposed gate turns a gradient of y into one of x."""
    start, out, into, left, right = gate
    width = right * LANES
    rows, columns, row, column = (into, out, 1, into) if transposed else (out, into, into, 1)
    once = _is_one_tile(rows, columns)
    for index in range(1 if once else left):
        p = 0
        while p < rows:
            tall = 4 if rows - p >= 4 else 1
            q = 0
            while q < columns:
                wide = 4 if columns - q >= 4 else 1
                tile = (start + p * row + q * column, row, column)
                place = _place((rows, columns), (p, q), index, left if once else 1, width)
                if tall == 4 and wide == 4 and once and width == LANES:
                    _apply_4x4_to_lanes(x, y, gates, tile, place.times)
                elif tall == 4 and wide == 4:
                    _apply_4x4(x, y, gates, tile, place, q > 0)
                elif tall == 4:
                    _apply_4x1(x, y, gates, tile, place, q > 0)
                elif wide == 4:
                    _apply_1x4(x, y, gates, tile, place, q > 0)
                else:
                    _apply_1x1(x, y, gates, tile, place, q > 0)
                q += wide
            p += tall


@_compiled
def _place(shape: tuple[int, int], tile: tuple[int, int], index: int, times: int, width: int) -> _Place:
    """Where a tile finds its rows.

    Args:
        shape: Rows and columns of the gate.
        tile: Row and column of the gate in which it begins.
        index: Of the first time, among what lies left of the gate.
        times: How often.
        width: Length of a row of x and of y.
    """
    (rows, columns), (p, q) = shape, tile
    x, y = (index * columns + q) * width, (index * rows + p) * width
    return _Place(x, y, columns * width, rows * width, times, width)


@_compiled
def _is_one_tile(rows: int, columns: int) -> bool:
    """Whether a gate is a tile: its loop over what lies left of it can then be the tile's own."""
    return (rows == 4 or rows == 1) and (columns == 4 or columns == 1)


@_compiled
def _apply_4x4(x: Vector, y: Vector, gates: Vector, tile: tuple[int, int, int], place: _Place, add: bool) -> None:
    """A 4 x 4 tile of a gate (start, from row to row, from column to column) times four rows, into or onto four."""
    start, row, column = tile
    a, b, c, d = start, start + row, start + 2 * row, start + 3 * row
    a0, a1, a2, a3 = gates[a], gates[a + column], gates[a + 2 * column], gates[a + 3 * column]
    b0, b1, b2, b3 = gates[b], gates[b + column], gates[b + 2 * column], gates[b + 3 * column]
    c0, c1, c2, c3 = gates[c], gates[c + column], gates[c + 2 * column], gates[c + 3 * column]
    d0, d1, d2, d3 = gates[d], gates[d + column], gates[d + 2 * column], gates[d + 3 * column]
    n = place.width
    for time in range(place.times):
        i, o = place.x + time * place.x_pitch, place.y + time * place.y_pitch
        # Slices, because an index into one is known to be no negative one, which would keep the loop from being
        # vectorised; and made here, because handed out by a function they would be reference-counted.
        x0, x1, x2, x3 = x[i : i + n], x[i + n : i + 2 * n], x[i + 2 * n : i + 3 * n], x[i + 3 * n : i + 4 * n]
        y0, y1, y2, y3 = y[o : o + n], y[o + n : o + 2 * n], y[o + 2 * n : o + 3 * n], y[o + 3 * n : o + 4 * n]
        if add:
            for v in range(n):
                s, t, u, w = x0[v], x1[v], x2[v], x3[v]
                y0[v] += a0 * s + a1 * t + a2 * u + a3 * w
                y1[v] += b0 * s + b1 * t + b2 * u + b3 * w
                y2[v] += c0 * s + c1 * t + c2 * u + c3 * w
                y3[v] += d0 * s + d1 * t + d2 * u + d3 * w
        else:
            for v in range(n):
                s, t, u, w = x0[v], x1[v], x2[v], x3[v]
                y0[v] = a0 * s + a1 * t + a2 * u + a3 * w
                y1[v] = b0 * s + b1 * t + b2 * u + b3 * w
                y2[v] = c0 * s + c1 * t + c2 * u + c3 * w
                y3[v] = d0 * s + d1 * t + d2 * u + d3 * w


@_compiled
def _apply_4x4_to_lanes(x: Vector, y: Vector, gates: Vector, tile: tuple[int, int, int], times: int) -> None:
    """The same of a gate on the last sites of a block: rows are LANES long, and those of all times lie in line.

    With a length that is known beforehand a time is 8 instructions on vectors; as a loop it is one slice after another.
    """
    start, row, column = tile
    a, b, c, d = start, start + row, start + 2 * row, start + 3 * row
    a0, a1, a2, a3 = gates[a], gates[a + column], gates[a + 2 * column], gates[a + 3 * column]
    b0, b1, b2, b3 = gates[b], gates[b + column], gates[b + 2 * column], gates[b + 3 * column]
    c0, c1, c2, c3 = gates[c], gates[c + column], gates[c + 2 * column], gates[c + 3 * column]
    d0, d1, d2, d3 = gates[d], gates[d + column], gates[d + 2 * column], gates[d + 3 * column]
    for time in range(times):
        source = x[4 * LANES * time : 4 * LANES * (time + 1)]
        target = y[4 * LANES * time : 4 * LANES * (time + 1)]
        for v in range(LANES):
            s, t, u, w = source[v], source[v + LANES], source[v + 2 * LANES], source[v + 3 * LANES]
            target[v] = a0 * s + a1 * t + a2 * u + a3 * w
            target[v + LANES] = b0 * s + b1 * t + b2 * u + b3 * w
            target[v + 2 * LANES] = c0 * s + c1 * t + c2 * u + c3 * w
            target[v + 3 * LANES] = d0 * s + d1 * t + d2 * u + d3 * w


@_compiled
def _apply_4x1(x: Vector, y: Vector, gates: Vector, tile: tuple[int, int, int], place: _Place, add: bool) -> None:
    """The same of a 4 x 1 tile: one row of x into or onto four rows of y."""
    start, row, _ = tile
    a, b, c, d = gates[start], gates[start + row], gates[start + 2 * row], gates[start + 3 * row]
    n = place.width
    for time in range(place.times):
        i, o = place.x + time * place.x_pitch, place.y + time * place.y_pitch
        x0 = x[i : i + n]
        y0, y1, y2, y3 = y[o : o + n], y[o + n : o + 2 * n], y[o + 2 * n : o + 3 * n], y[o + 3 * n : o + 4 * n]
        if add:
            for v in range(n):
                s = x0[v]
                y0[v] += a * s
                y1[v] += b * s
                y2[v] += c * s
                y3[v] += d * s
        else:
            for v in range(n):
                s = x0[v]
                y0[v] = a * s
                y1[v] = b * s
                y2[v] = c * s
                y3[v] = d * s


@_compiled
def _apply_1x4(x: Vector, y: Vector, gates: Vector, tile: tuple[int, int, int], place: _Place, add: bool) -> None:
    """The same of a 1 x 4 tile: four rows of x into or onto one row of y."""
    start, _, column = tile
    a, b, c, d = gates[start], gates[start + column], gates[start + 2 * column], gates[start + 3 * column]
    n = place.width
    for time in range(place.times):
        i, o = place.x + time * place.x_pitch, place.y + time * place.y_pitch
        x0, x1, x2, x3 = x[i : i + n], x[i + n : i + 2 * n], x[i + 2 * n : i + 3 * n], x[i + 3 * n : i + 4 * n]
        y0 = y[o : o + n]
        if add:
            for v in range(n):
                y0[v] += a * x0[v] + b * x1[v] + c * x2[v] + d * x3[v]
        else:
            for v in range(n):
                y0[v] = a * x0[v] + b * x1[v] + c * x2[v] + d * x3[v]


@_compiled
def _apply_1x1(x: Vector, y: Vector, gates: Vector, tile: tuple[int, int, int], place: _Place, add: bool) -> None:
    """The same of a single number."""
    a = gates[tile[0]]
    n = place.width
    for time in range(place.times):
        i, o = place.x + time * place.x_pitch, place.y + time * place.y_pitch
        x0, y0 = x[i : i + n], y[o : o + n]
        if add:
            for v in range(n):
                y0[v] += a * x0[v]
        else:
            for v in range(n):
                y0[v] = a * x0[v]


@_compiled
def _outer(x: Vector, grad: Vector, grad_gates: Vector, gate: Vector) -> None:
    """grad_gate[p, q] += sum over l and r of grad[l, p, r] x[l, q, r]."""
    start, out, into, left, right = gate
    width = right * LANES
    once = _is_one_tile(out, into)
    for index in range(1 if once else left):
        for p in range(0, out, 4):
            for q in range(0, into, 4):
                tall, wide = min(4, out - p), min(4, into - q)
                place = _place((out, into), (p, q), index, left if once else 1, width)
                if tall == 4 and wide == 4:
                    _outer_4x4(x, grad, grad_gates, (start + p * into + q, into), place)
                else:
                    _outer_rest(x, grad, grad_gates, (start + p * into + q, into), place, (tall, wide))


@_compiled
def _outer_rest(
    x: Vector, grad: Vector, grad_gates: Vector, tile: tuple[int, int], place: _Place, shape: tuple[int, int]
) -> None:
    """Scalar products of rows of grad with rows of x, onto a tile of `shape` in the gradient of a gate."""
    start, row = tile
    n = place.width
    for p in range(shape[0]):
        for q in range(shape[1]):
            total = x.dtype.type(0)
            for time in range(place.times):
                i, o = place.x + q * n + time * place.x_pitch, place.y + p * n + time * place.y_pitch
                source, above = x[i : i + n], grad[o : o + n]
                for v in range(n):
                    total += above[v] * source[v]
            grad_gates[start + p * row + q] += total


@_compiled
def _outer_4x4(x: Vector, grad: Vector, grad_gates: Vector, tile: tuple[int, int], place: _Place) -> None:
    """Scalar products of four rows of grad with four of x, onto a 4 x 4 tile (start, from row to row) of a gradient."""
    zero = x.dtype.type(0)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = zero
    n = place.width
    for time in range(place.times):
        i, o = place.x + time * place.x_pitch, place.y + time * place.y_pitch
        x0, x1, x2, x3 = x[i : i + n], x[i + n : i + 2 * n], x[i + 2 * n : i + 3 * n], x[i + 3 * n : i + 4 * n]
        g0, g1 = grad[o : o + n], grad[o + n : o + 2 * n]
        g2, g3 = grad[o + 2 * n : o + 3 * n], grad[o + 3 * n : o + 4 * n]
        for v in range(n):
            s, t, u, w = x0[v], x1[v], x2[v], x3[v]
            a, b, c, d = g0[v], g1[v], g2[v], g3[v]
            a0, a1, a2, a3 = a0 + a * s, a1 + a * t, a2 + a * u, a3 + a * w
            b0, b1, b2, b3 = b0 + b * s, b1 + b * t, b2 + b * u, b3 + b * w
            c0, c1, c2, c3 = c0 + c * s, c1 + c * t, c2 + c * u, c3 + c * w
            d0, d1, d2, d3 = d0 + d * s, d1 + d * t, d2 + d * u, d3 + d * w
    start, row = tile
    _add_row(grad_gates, start, (a0, a1, a2, a3))
    _add_row(grad_gates, start + row, (b0, b1, b2, b3))
    _add_row(grad_gates, start + 2 * row, (c0, c1, c2, c3))
    _add_row(grad_gates, start + 3 * row, (d0, d1, d2, d3))


@_compiled
def _add_row(target: Vector, start: int, numbers: tuple[float, float, float, float]) -> None:
    for k in range(4):
        target[start + k] += numbers[k]


@_compiled
def _activate(x: Vector, y: Vector, size: int, activation: int) -> None:
    """Write f(x) to y, which may be x."""
    zero, slope = x.dtype.type(0), x.dtype.type(LEAKY_SLOPE)
    if activation == 1:
        for v in range(size):
            y[v] = zero if x[v] < zero else x[v]
    elif activation == 2:
        for v in range(size):
            y[v] = slope * x[v] if x[v] < zero else x[v]
    elif activation == 3:
        for v in range(size):
            y[v] = math.tanh(x[v])
    else:
        for v in range(size):
            y[v] = 0.5 * x[v] * (1 + math.erf(x[v] * _SQRT_HALF))


@_compiled
def _activate_backward(x: Vector, grad: Vector, size: int, activation: int) -> None:
    """Multiply grad by f'(x)."""
    zero, slope = x.dtype.type(0), x.dtype.type(LEAKY_SLOPE)
    if activation == 1:
        for v in range(size):
            grad[v] = zero if x[v] <= zero else grad[v]
    elif activation == 2:
        for v in range(size):
            grad[v] = slope * grad[v] if x[v] <= zero else grad[v]
    elif activation == 3:
        for v in range(size):
            grad[v] *= 1 - math.tanh(x[v]) ** 2
    else:
        for v in range(size):
            density = math.exp(-0.5 * x[v] * x[v]) * _SQRT_HALF_OVER_PI
            grad[v] *= 0.5 * (1 + math.erf(x[v] * _SQRT_HALF)) + x[v] * density
