"""Hypothesis strategies for requests: valid ones, valid ones with damage, and noise."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from containers.saved_model.signature import IMAGE_SIDE
from containers.tabular.features import FEATURES
from tools.fuzz.wire import Request
from tools.tiny_models import WORDS

JSON, CSV, NPY, PNG, JPEG = "application/json", "text/csv", "application/x-npy", "image/png", "image/jpeg"
_T = TypeVar("_T")


class Draw(Protocol):
    """Function that draws an example from a strategy."""

    def __call__(self, strategy: st.SearchStrategy[_T]) -> _T:
        """Return the example."""


_METHODS = st.sampled_from(
    ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "POST", "POST")
)
_TYPES = st.sampled_from(
    (
        JSON, CSV, NPY, PNG, JPEG, "Application/JSON; charset=utf-8", "text/csv; label_size=1", "text/plain", "",
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*", ";", "application/json,text/csv",
        "image/png; q=0", "application/jsonlines",
    )
)  # fmt: skip
_ACCEPTS = st.sampled_from(
    (
        "*/*", JSON, CSV, NPY, PNG, "application/x-npy; dtype=uint8", "application/x-npy;dtype=float64", "image/*",
        "text/*;q=0.1, application/json", "", ",", ";;;", "application/*", "text/html", "a" * 300,
    )
)  # fmt: skip
_NAMES = st.sampled_from(
    (
        "X-Amzn-SageMaker-Target-Model", "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Target-Variant",
        "X-Amzn-SageMaker-Session-Id", "X-Amzn-SageMaker-Inference-Id", "Content-Encoding", "Cookie", "Origin", "Range",
        "Accept-Encoding", "If-None-Match", "X-Forwarded-For", "Authorization", "Via",
    )
)  # fmt: skip
# Allowed in a header's value (RFC 9110, 5.5): visible characters, blanks between them, and bytes from 0x80 on.
_VALUES = st.binary(max_size=40).map(lambda text: bytes(b for b in text if b >= 32 and b != 127).strip())
_ODD_TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        (
            "",
            " ",
            "\u2028",
            "\x00",
            "w1 " * 400,
            "😀" * 50,
            "\u202e" + "w1",
            "\u017f" * 20,
            "w1\u0301" * 9,
            "'; --",
            "\ufeffw2",
        )
    ),
)
_NUMBERS = st.one_of(
    st.integers(-10, 300),
    st.floats(),
    st.sampled_from((2**63, -(2**64), 10**400, 1e308, -0.0, 5e-324, 10**22)),
)
_ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _ODD_TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.sampled_from(
                    ("instances", "question", "context", "precision", "signature_name", "url", "model_name")
                ),
                st.text(max_size=5),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
_TOKENS = st.sampled_from(
    (
        b"\x00", b"\xff", b"\xed\xa0\x80", b'"\\ud800"', b"1e999", b"-", b"NaN", b"Infinity", b"{", b"[", b"]", b"}",
        b",", b"\r\n", b"\n\n", b'"', b"\\u0000", b"null", b"1_0", b"\xef\xbb\xbf", b"[" * 2000, b"9" * 5000,
        b'{"a":' * 300, b"\x93NUMPY", b"IDAT", b"\xff\xda", b"\xff\xd8", b"IEND", b"\x00\x00\x00\x00",
    )
)  # fmt: skip


def dumps(value: object) -> bytes:
    """Return JSON that may contain what JSON forbids: NaN, and halves of surrogate pairs."""
    return json.dumps(value).encode()


@st.composite
def damaged(draw: Draw, whole: st.SearchStrategy[bytes]) -> bytes:
    """Return bytes with one to four changes: overwritten, truncated, removed, inserted, or repeated."""
    content = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        # Half of the time near the beginning, where headers are.
        place = draw(st.one_of(st.integers(0, min(len(content), 160)), st.integers(0, len(content))))
        match draw(st.sampled_from(("change", "change", "cut", "take", "put", "repeat"))):
            case "change" if place < len(content):
                content[place] = draw(st.integers(0, 255))
            case "cut":
                del content[place:]
            case "take":
                del content[place : place + draw(st.integers(1, 64))]
            case "put":
                content[place:place] = draw(st.one_of(_TOKENS, st.binary(max_size=12)))
            case "repeat":
                content[place:place] = content[place : place + draw(st.integers(1, 400))] * draw(st.integers(1, 8))
    return bytes(content)


@dataclass(frozen=True, slots=True)
class Surface:
    """API of a container.

    routes: method and path of each route. bodies: valid bodies by media type. near: bodies of the right kind whose
    values may be wrong. special: additional requests.
    """

    routes: tuple[tuple[str, str], ...]
    bodies: tuple[tuple[str, st.SearchStrategy[bytes]], ...]
    near: tuple[tuple[str, st.SearchStrategy[bytes]], ...]
    special: st.SearchStrategy[Request] | None = None

    def requests(self) -> st.SearchStrategy[Request]:
        """Return a strategy of valid, nearly valid, damaged and arbitrary requests, in the ratio 2:2:2:1.

        If there are special requests, they have a share of 2 as well.
        """
        valid = self._to_routes(st.one_of([_typed(*body) for body in self.bodies]))
        near = self._to_routes(st.one_of([_typed(*body) for body in self.near]))
        broken = self._to_routes(st.one_of([_typed(kind, damaged(body)) for kind, body in self.bodies]))
        kinds = [valid, valid, near, near, broken, broken, self._anything()]
        if self.special is not None:
            kinds += [self.special, self.special]
        return st.sampled_from(range(len(kinds))).flatmap(kinds.__getitem__)

    def _to_routes(self, bodies: st.SearchStrategy[tuple[str, bytes]]) -> st.SearchStrategy[Request]:
        posts = [route for route in self.routes if route[0] == "POST"]

        def request(route: tuple[str, str], typed: tuple[str, bytes], extra: Sequence[tuple[str, bytes]]) -> Request:
            return Request(*route, (("Content-Type", typed[0].encode()), *extra), typed[1])

        return st.builds(request, st.sampled_from(posts), bodies, _extra_headers())

    def _anything(self) -> st.SearchStrategy[Request]:
        bodies = st.one_of(
            st.just(b""), st.binary(max_size=300), _ANY_JSON.map(dumps), *[body for _, body in self.bodies]
        )

        def request(
            method: str, path: str, kind: str | None, extra: Sequence[tuple[str, bytes]], body: bytes
        ) -> Request:
            given = (("Content-Type", kind.encode()),) if kind is not None else ()
            return Request(method, path, (*given, *extra), body)

        return st.builds(
            request, _METHODS, _paths([path for _, path in self.routes]), st.none() | _TYPES, _extra_headers(), bodies
        )


def _typed(kind: str, body: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Return bodies with their own media type, and one in eight with another."""
    own = st.sampled_from((kind, f"{kind}; a=b"))
    return st.tuples(st.integers(0, 7).flatmap(lambda which: own if which else _TYPES), body)


@st.composite
def _extra_headers(draw: Draw) -> tuple[tuple[str, bytes], ...]:
    headers: list[tuple[str, bytes]] = []
    if draw(st.booleans()):
        headers.append(("Accept", draw(_ACCEPTS).encode()))
    if not draw(st.integers(0, 3)):
        headers += draw(st.lists(st.tuples(_NAMES, _VALUES), min_size=1, max_size=3))
    return tuple(headers)


def _paths(known: Sequence[str]) -> st.SearchStrategy[str]:
    ends = st.sampled_from(
        ("", "/", "?", "?x=1&y=%00", "/%2e%2e/ping", "%00", "//", "/..;/", "?" + "a" * 2000, "/%ff%fe", "%", "#f",
         ";a=b", "/invoke", "/x" * 200)
    )  # fmt: skip
    odd = st.sampled_from(
        ("/", "//ping", "/PING", "/invocations/..", "/models?limit=0", "/models?limit=" + "9" * 5000, "/docs", "*",
         "/openapi.json", "http://elsewhere/ping", "/models?next_page_token=%FF", "/models?limit=%D9%A1", "/metrics/",
         "/models/%2F", "/models//invoke", "/predictions_neuron_core_-1/model_0", "/%E2%82%AC")
    )  # fmt: skip
    visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40).map("/{}".format)
    return st.one_of(st.builds(str.__add__, st.sampled_from(list(known)), ends), odd, visible)


_WORDS = st.lists(st.sampled_from((*WORDS, "unknown")), min_size=1, max_size=90).map(" ".join)
_ITEM = st.fixed_dictionaries({"question": _WORDS, "context": _WORDS})
_NEAR_ITEM = st.fixed_dictionaries(
    {"question": _WORDS | _ODD_TEXT, "context": _WORDS | _ODD_TEXT},
    optional={"precision": _ODD_TEXT | st.sampled_from(("INT8", "fp32", 1, None)), "extra": _ANY_JSON},
)
_QUESTIONS = (_ITEM | st.lists(_ITEM, min_size=1, max_size=4)).map(dumps)
_NEAR_QUESTIONS = st.one_of(
    _NEAR_ITEM.map(dumps),
    st.lists(_NEAR_ITEM, max_size=3).map(dumps),
    st.lists(st.just({"question": "w1", "context": "w2"}), min_size=60, max_size=70).map(dumps),
    st.integers(1000, 4000).map(lambda words: dumps({"question": "w1", "context": "w3 " * words})),
    _ANY_JSON.map(dumps),
)

_CELLS = st.one_of(st.integers(0, 400), st.floats(0, 400)).map(str)
_ROW = st.lists(_CELLS, min_size=len(FEATURES), max_size=len(FEATURES)).map(",".join)
_ROWS = st.lists(_ROW, min_size=1, max_size=3).map("\n".join).map(str.encode)
_ODD_CELLS = st.one_of(
    _CELLS,
    st.floats().map(str),
    st.sampled_from(("", " ", "nan", "inf", "-1e39", "1_0", "٣", "0x1", '"1"', "1e", "\x85")),
)
_ODD_ROWS = (
    st.lists(st.lists(_ODD_CELLS, min_size=14, max_size=18).map(",".join), max_size=4)
    .flatmap(lambda rows: st.sampled_from(("\n", "\r\n", "\r", "\n\n", "\x0b")).map(lambda end: end.join(rows)))
    .map(lambda text: text.encode())
)
_VECTOR = st.lists(st.one_of(st.integers(0, 400), st.floats(0, 400), st.none()), min_size=16, max_size=16)
_CUSTOMER = st.fixed_dictionaries({name: st.integers(0, 400) for name in FEATURES[:4]})
_INSTANCES = st.fixed_dictionaries({"instances": st.lists(_VECTOR | _CUSTOMER, min_size=1, max_size=3)}).map(dumps)
_ODD_INSTANCES = st.fixed_dictionaries(
    {"instances": st.lists(st.one_of(st.lists(_NUMBERS, min_size=15, max_size=17), _ANY_JSON), max_size=3) | _ANY_JSON}
).map(dumps)


def picture(kind: str, mode: str = "RGB", side: int = IMAGE_SIDE, **options: Any) -> bytes:
    """Return an encoded picture of colored squares."""
    squares = np.random.default_rng(3).integers(0, 255, (side // 16, side // 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(squares.repeat(16, 0).repeat(16, 1)).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def _array(shape: tuple[int, ...], dtype: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.full(shape, 1, dtype))
    return stream.getvalue()


_SIDES = (IMAGE_SIDE, IMAGE_SIDE, 3)
_ARRAYS = tuple(_array(shape, dtype) for shape in (_SIDES, (1, *_SIDES), (2, *_SIDES)) for dtype in ("|u1", "<f4"))
_ODD_ARRAYS = (
    *(_array(shape, "|u1") for shape in ((), (0,), (9, *_SIDES), (0, *_SIDES), (224, 224), (1, 1, *_SIDES))),
    *(_array(_SIDES, dtype) for dtype in ("<f8", ">f4", "<f2", "<i4", "?", "<c8", "<U1")),
    b"\x93NUMPY\x01\x00\x50\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 224, 224, 3), }".ljust(
        90
    ),
)
_PICTURES = {PNG: (picture("PNG"), picture("PNG", "L"), picture("PNG", "P")), JPEG: (picture("JPEG"),)}
_ODD_PICTURES = (
    picture("PNG", "RGBA"), picture("PNG", "I;16"), picture("PNG", side=208), picture("JPEG", "CMYK"),
    picture("JPEG", progressive=True), picture("JPEG", "L"), picture("GIF"), picture("PNG", "1"),
)  # fmt: skip
_IMAGE_JSON = dumps({"instances": np.full(_SIDES, 0.5).tolist()})


def _loads(names: Sequence[str]) -> st.SearchStrategy[Request]:
    """Return requests to load, list, describe and unload models, with valid and invalid names and folders."""
    folders = st.sampled_from([f"/{name}/model" for name in names])
    urls = st.one_of(
        folders, folders, _ODD_TEXT, st.sampled_from(("/", "/dev", "/proc/self", "/proc/self/mem", "file:///"))
    )

    def request(method: str, path: str, body: object) -> Request:
        return Request(method, path, (("Content-Type", JSON.encode()),), dumps(body))

    models = st.sampled_from((*names, "NY", "m%2F1", "%00", "%C3%A9", "x" * 300))
    load = st.fixed_dictionaries({"model_name": st.sampled_from([f"m{i}" for i in range(12)]) | _ODD_TEXT, "url": urls})
    return st.one_of(
        st.builds(request, st.just("POST"), st.just("/models"), load | _ANY_JSON),
        st.builds(request, st.just("GET"), models.map("/models/{}".format), st.just({})),
        st.builds(request, st.just("DELETE"), st.sampled_from([f"/models/m{i}" for i in range(12)]), st.just({})),
        st.builds(request, st.just("GET"), st.integers(-1, 20).map("/models?limit={}".format), st.just({})),
    )


def surfaces(folders: Sequence[str]) -> dict[str, Surface]:
    """Return the surface of each container. folders: archives of the multi-model server, without the leading slash."""
    ping, invocations = ("GET", "/ping"), ("POST", "/invocations")
    questions = ((JSON, _QUESTIONS),)
    near_questions = ((JSON, _NEAR_QUESTIONS),)
    images = st.sampled_from(_ARRAYS)
    return {
        "encoder": Surface((ping, invocations), questions, near_questions),
        "neuron_encoder": Surface(
            (
                ping,
                invocations,
                ("GET", "/metrics"),
                *(
                    ("POST", f"/predictions_neuron_core_{core}/model_{model}")
                    for core in range(2)
                    for model in range(2)
                ),
            ),
            questions,
            near_questions,
        ),
        "tabular": Surface(
            (
                ping,
                ("GET", "/models"),
                ("POST", "/models/CA/invoke"),
                ("POST", "/models/NY/invoke"),
                ("POST", "/models/m1/invoke"),
            ),
            ((CSV, _ROWS), (JSON, _INSTANCES)),
            ((CSV, _ODD_ROWS), (JSON, _ODD_INSTANCES)),
            _loads(folders),
        ),
        "saved_model": Surface(
            (ping, invocations),
            (
                (NPY, images),
                (PNG, st.sampled_from(_PICTURES[PNG])),
                (PNG, st.sampled_from(_PICTURES[PNG])),
                (JPEG, st.sampled_from(_PICTURES[JPEG])),
                (JPEG, st.sampled_from(_PICTURES[JPEG])),
                # Half a megabyte of numbers takes as long as twenty pictures.
                (
                    JSON,
                    st.integers(0, 9).map(lambda n: _IMAGE_JSON if not n else b'{"instances": [[[0.5, 0.5, 0.5]]]}'),
                ),
            ),
            (
                (NPY, st.sampled_from(_ODD_ARRAYS)),
                (PNG, st.sampled_from(_ODD_PICTURES)),
                (JPEG, st.sampled_from(_ODD_PICTURES)),
                (
                    JSON,
                    st.fixed_dictionaries({"instances": _ANY_JSON}, optional={"signature_name": _ANY_JSON}).map(dumps),
                ),
            ),
        ),
    }


_LENGTHS = st.sampled_from(
    (
        b"-1",
        b"+5",
        b"1e3",
        b"0x10",
        b"",
        b" ",
        b"99999999999999999999",
        b"5, 5",
        b"5, 6",
        b"10000000",
        b"1",
        b"\xc2\xb2",
    )
)
_LINES = st.sampled_from(
    (
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked", b"Content-Length: 4", b"Content-Length : 4", b"Expect: 100-continue",
        b"Connection: close", b"Connection: upgrade\r\nUpgrade: websocket", b"Upgrade: h2c",
        b"Host: localhost\r\nHost: localhost",
        b" folded: line", b"no colon", b": no name", b"a" * 70_000 + b": b", b"c: " + b"d" * 70_000, b"nul: \x00",
        b"bare\rreturn: x", b"\xff\xfe: x", b"Trailer: x", b"\r\n".join([b"many: x"] * 20_000),
    )
)  # fmt: skip
_STARTS = st.sampled_from(
    (
        b"POST %s HTTP/1.0", b"POST %s HTTP/0.9", b"POST %s HTTP/2.0", b"POST %s HTTP/9.9", b"POST  %s  HTTP/1.1",
        b"%s", b"PRI * HTTP/2.0\r\n\r\nSM", b"post %s HTTP/1.1", b"POST\x00 %s HTTP/1.1", b"CONNECT a:1 HTTP/1.1",
        b"\r\n\r\nPOST %s HTTP/1.1",
        b"POST %s", b"G" * 9000 + b" %s HTTP/1.1", b"POST %s" + b"y" * 70_000 + b" HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
    )
)  # fmt: skip
_CHUNKS = st.sampled_from(
    (b"4\r\nabcd\r\n0\r\n\r\n", b"4;x=y\r\nabcd\r\n0\r\n\r\n", b"ffffffffffffffff\r\nab", b"-1\r\nab\r\n",
     b"zz\r\n\r\n", b"4\r\nabcdefgh\r\n0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"4\nabcd\n0\n\n", b"4\r\nab",
     b"1" * 200 + b"\r\n")
)  # fmt: skip


@st.composite
def malformed(draw: Draw, surface: Surface) -> bytes:
    """Return bytes with invalid HTTP framing: start lines, lengths, chunks, header lines, cuts, and damage."""
    method, path = draw(st.sampled_from(surface.routes))
    body = draw(surface.bodies[0][1])[:2000]
    kind = draw(st.sampled_from(("start", "length", "chunks", "line", "cut", "damage", "smuggle", "noise")))
    whole = Request(method, path, (("Content-Type", surface.bodies[0][0].encode()),), body).raw()
    first, _, rest = whole.partition(b"\r\n")
    match kind:
        case "start":
            start = draw(_STARTS)
            return bytes((start % path.encode() if b"%s" in start else start) + b"\r\n" + rest)
        case "length":
            return whole.replace(b"Content-Length: %d" % len(body), b"Content-Length: " + draw(_LENGTHS))
        case "chunks":
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            return head + draw(_CHUNKS)
        case "line":
            return first + b"\r\n" + draw(_LINES) + b"\r\n" + rest
        case "cut":
            return whole[: draw(st.integers(0, len(whole) - 1))]
        case "smuggle":
            inner = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
            framing = draw(st.sampled_from((b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"Content-Length: 0")))
            return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + framing + b"\r\n\r\n0\r\n\r\n" + inner
        case "damage":
            return draw(damaged(st.just(whole)))
    return draw(st.binary(max_size=400))
