"""Convert requests and responses between InvokeEndpoint and TensorFlow Serving, as SageMaker's nginx script does.

Source: docker/build_artifacts/sagemaker/tensorflowServing.js of aws/sagemaker-tensorflow-serving-container.
"""

import re

JSON = "application/json"
JSON_LINES = "application/jsonlines"
_JSON_TYPES = (JSON, JSON_LINES, "application/jsons")
CSV = "text/csv"
_OWN_FORM = re.compile(rb'"(?:instances|inputs|examples)"\s*:')
_SEVERAL_VALUES = re.compile(rb"[}\]]\s*[\[{]")
_LIST_OF_LISTS = re.compile(rb"\s*\[\s*\[")
_PLAIN_CSV = re.compile(rb"\s*(?:\"|[\d.Ee+\-]+)")
_LINE_END = re.compile(rb"\r?\n")


class MediaTypeError(Exception):
    """A Content-Type that the script does not convert; the message is the response's."""


def to_request(body: bytes, content_type: str | None) -> bytes:
    """Return the request to TensorFlow Serving; raise MediaTypeError."""
    if content_type in _JSON_TYPES:
        return _from_json(body)
    if content_type == CSV:
        return _from_csv(body)
    raise MediaTypeError(f"Unsupported Media Type: {content_type or 'Unknown'}")


def _from_json(body: bytes) -> bytes:
    if _OWN_FORM.search(body):
        return body
    if _SEVERAL_VALUES.search(body):
        return _from_lines(body)
    instances = body if _LIST_OF_LISTS.match(body) else b"[" + body + b"]"
    return b'{"instances":' + instances + b"}"


def _from_lines(body: bytes) -> bytes:
    lines = _LINE_END.split(body.strip())
    if len(lines) == 1:
        # Several values on one line give no valid JSON, there as here.
        return b'{"instances":' + lines[0].strip() + b"}"
    return b'{"instances":[' + b",".join(line for each in lines if (line := each.strip())) + b"]}"


def _from_csv(body: bytes) -> bytes:
    quoted = not _PLAIN_CSV.match(body)
    lines = [line for each in _LINE_END.split(body.strip()) if (line := each.strip())]
    return b'{"instances":[' + b",".join(_csv_instance(line, quoted) for line in lines) + b"]}"


def _csv_instance(line: bytes, quoted: bool) -> bytes:
    """Return an instance of one column as a value, and one of several as a list.

    Of text, the script escapes the first quotation mark only, and separates columns at the first comma only.
    """
    value = b'"' + line.replace(b'"', b'\\"', 1).replace(b",", b'","', 1) + b'"' if quoted else line
    return b"[" + value + b"]" if b"," in line else value


def to_response(body: bytes, accept: str | None) -> tuple[bytes, str]:
    """Return the body and Content-Type of the response, from TensorFlow Serving's and the request's Accept."""
    if accept is not None:
        wanted = accept.strip().replace(" ", "", 1).split(",")
        if JSON in wanted or JSON_LINES in wanted:
            return body.replace(b"\n", b""), wanted[0]
    return body, JSON
