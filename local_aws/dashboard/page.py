"""The dashboard page: deployed dashboards with live data, in one document that loads nothing from other sites."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dashboards.body import AlarmWidget, MetricWidget, TextWidget
from local_aws.account import ROOT, LocalAccount
from local_aws.dashboard import reading

_HERE = Path(__file__).parent
_UPLOT = ROOT / "node_modules/uplot/dist"
_MAX_MINUTES = 24 * 60
_PUBLISH_SECONDS = 4.0
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"


def document() -> str:
    """Return the HTML with styles and scripts inlined; raise FileNotFoundError if the Node packages are missing."""
    parts = {
        "/*UPLOT_CSS*/": _UPLOT / "uPlot.min.css",
        "/*STYLE*/": _HERE / "page.css",
        "/*UPLOT*/": _UPLOT / "uPlot.iife.min.js",
        "/*SCRIPT*/": _HERE / "page.js",
    }
    html = (_HERE / "page.html").read_text()
    for mark, path in parts.items():
        html = html.replace(mark, path.read_text())
    return html


def create_app(account: LocalAccount) -> Starlette:
    """Return the page and its data API for one running account."""
    cloudwatch = reading.client(account.endpoint_url, account.client_environment())
    html = document()
    publisher = _Publisher(account)

    async def page(_request: Request) -> Response:
        return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})

    async def listed(_request: Request) -> Response:
        return JSONResponse({"dashboards": await run_in_threadpool(reading.names, cloudwatch)})

    async def drawn(request: Request) -> Response:
        minutes = _minutes(request.query_params.get("minutes", "60"))
        if minutes is None:
            given = request.query_params["minutes"]
            return _refused(400, f"minutes is {given[:40]!r}: use a whole number from 1 to {_MAX_MINUTES}")
        await publisher.publish()
        name = request.path_params["name"]
        try:
            body = await run_in_threadpool(reading.body, cloudwatch, name)
        except reading.DashboardError as error:
            return _refused(404, str(error))
        widgets = await run_in_threadpool(reading.draw, cloudwatch, body, minutes)
        return JSONResponse({"name": name, "now": time.time(), "widgets": [encoded(each) for each in widgets]})

    return Starlette(routes=[Route("/", page), Route("/dashboards", listed), Route("/dashboards/{name}", drawn)])


def encoded(drawn: reading.Drawn) -> dict[str, Any]:
    """Return a widget as the JSON that the page's script reads."""
    widget = drawn.widget
    place = {"type": widget.type, "x": widget.x, "y": widget.y, "width": widget.width, "height": widget.height}
    match widget:
        case TextWidget():
            return {**place, "markdown": widget.properties.markdown}
        case AlarmWidget():
            alarms = [{"name": a.name, "state": a.state, "reason": a.reason} for a in drawn.alarms]
            return {**place, "title": widget.properties.title, "alarms": alarms}
        case MetricWidget():
            shown = widget.properties
            return {
                **place,
                "title": shown.title,
                "view": shown.view,
                "stacked": shown.stacked,
                "period": shown.period,
                "axes": {"left": shown.yAxis.left.label, "right": shown.yAxis.right.label},
                "limits": [
                    {"value": line.value, "label": line.label, "side": line.yAxis}
                    for line in shown.annotations.horizontal
                    if line.visible
                ],
                "lines": [
                    {"label": line.label, "side": line.side, "points": line.points, "note": line.note}
                    for line in drawn.lines
                ],
            }


class _Publisher:
    """Trigger for the account to publish its metrics now, since a page should not wait a minute for them."""

    def __init__(self, account: LocalAccount) -> None:
        self._url, self._auth = f"{account.runtime_url}/_local/publish", account.auth()
        self._next, self._lock = 0.0, asyncio.Lock()

    async def publish(self) -> None:
        """Publish, at most once per _PUBLISH_SECONDS; ignore an account that does not respond."""
        async with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + _PUBLISH_SECONDS
            async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
                try:
                    await client.post(self._url, auth=self._auth)
                except httpx.HTTPError:
                    return


def _minutes(given: str) -> int | None:
    return (
        int(given)
        if given.isascii() and given.isdecimal() and len(given) < 6 and 1 <= int(given) <= _MAX_MINUTES
        else None
    )


def _refused(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)
