"""What the encoder image answers, through its ASGI application and a stand-in encoder."""

import asyncio
import json
import threading
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from containers.encoder.handler import make_handler
from containers.encoder.question_answering import QuestionAnswering
from containers.serving.app import Answer, Invocation, ServingOptions, create_app
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.question_answering.answers import Item, whole_characters
from containers.serving.question_answering.requests import MAX_CHARACTERS, MAX_ITEMS, MAX_WINDOWS
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window, Windower, WindowLimits

VOCABULARY = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "answer": 4}


class PointsAtTheWordAnswer:
    """An encoder whose logits are highest at the token `answer`."""

    packs = False

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        logits = np.where(batch.input_ids == VOCABULARY["answer"], 10, 0).astype(np.float32)
        return logits, logits


def question_answering(limits: WindowLimits | None = None) -> QuestionAnswering:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return QuestionAnswering(PointsAtTheWordAnswer(), Windower(tokenizer, limits or WindowLimits(64, 16, 16)))


def send(
    requests: list[dict[str, object]],
    invoke: Callable[[Invocation], Answer] | None = None,
    options: ServingOptions | None = None,
) -> list[httpx.Response]:
    app = create_app(invoke or make_handler(question_answering(), "int8"), options or ServingOptions())

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:
            return await asyncio.gather(*(client.request(**request) for request in requests))  # type: ignore[arg-type]

    return asyncio.run(go())


def invoke(body: bytes | object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return send([{"method": "POST", "url": "/invocations", "content": content, "headers": sent}])[0]


def test_one_item_in_one_answer_out_with_the_characters_of_the_context() -> None:
    response = invoke({"question": "which?", "context": "the Answer, \u2603 indeed"})
    answer = response.json()
    assert response.status_code == 200
    assert answer["answer"] == "Answer"
    assert (answer["start"], answer["end"]) == (4, 10)
    assert 0 < answer["score"] <= 1


@pytest.mark.parametrize(
    "body", [b'{"question": "q", "context": "answer"}', b'[{"question": "q", "context": "answer"}]']
)
def test_a_byte_order_mark_before_the_json_is_ignored(body: bytes) -> None:
    assert invoke(b"\xef\xbb\xbf" + body).json() == invoke(body).json()


def test_a_list_in_a_list_out_in_order() -> None:
    items = [{"question": "q", "context": f"{'x ' * n}answer"} for n in range(5)]
    assert [answer["start"] for answer in invoke(items).json()] == [0, 2, 4, 6, 8]


def test_batched_answers_equal_single_ones() -> None:
    items = [{"question": "q", "context": f"{'x ' * n}answer {'y ' * (3 * n)}"} for n in range(20)]
    assert invoke(items).json() == [invoke(item).json() for item in items]


@pytest.mark.parametrize("windows", [2, 3, 5])
def test_an_answer_that_several_windows_see_is_as_certain_as_in_one(windows: int) -> None:
    # With 58 context tokens to a window and one token of step, `windows` windows share all but the outermost tokens.
    limits = WindowLimits(64, 56, 4)
    asked = {"question": "q", "context": f"{'x ' * 30}answer {'x ' * 29}"}
    alone, shared = (
        send(
            [{"method": "POST", "url": "/invocations", "json": {**asked, "context": asked["context"] + "x " * more}}],
            make_handler(question_answering(limits), "int8"),
        )[0].json()
        for more in (0, windows - 1)
    )
    assert shared["answer"] == alone["answer"] == "answer"
    assert shared["score"] == pytest.approx(alone["score"], rel=0.01)
    assert alone["score"] > 0.9


@pytest.mark.parametrize("marks", ["\u0308", "\u0323\u0301", "\ufe0f"])
def test_an_answer_keeps_the_marks_of_its_last_letter(marks: str) -> None:
    found = invoke({"question": "q", "context": f"in Answer{marks}, then"}).json()
    assert (found["answer"], found["start"], found["end"]) == (f"Answer{marks}", 3, 9 + len(marks))


def test_a_range_that_begins_or_ends_between_a_letter_and_its_sign_is_extended() -> None:
    hindi = "\u0915\u093f\u0924\u093e\u092c"
    assert whole_characters(hindi, 1, 3) == (0, 4)
    assert whole_characters(hindi, 2, 4) == (2, 4)
    assert whole_characters("\u0301a", 0, 1) == (0, 1)


def test_a_question_that_was_cut_says_so_and_others_do_not() -> None:
    item = {"question": "word " * 16, "context": "answer"}
    assert "question_truncated" not in invoke(item).json()
    assert invoke({**item, "question": "word " * 17}).json()["question_truncated"] is True


def test_no_answer_competes_only_where_it_is_asked_for() -> None:
    item = {"question": "q", "context": "nothing here"}
    assert invoke(item).json().keys() == {"answer", "score", "start", "end"}
    asked = {**item, "handle_impossible_answer": True}
    # All logits are 0: three spans and "no answer" are equally likely, and a tie is an answer.
    found = invoke(asked).json()
    assert found["score"] == pytest.approx(1 / 4)
    assert found["no_answer_score"] == pytest.approx(1 / 4)
    assert found["answer"] != ""
    found = invoke({**asked, "null_score_diff_threshold": -0.5}).json()
    assert (found["answer"], found["start"], found["end"]) == ("", 0, 0)
    assert found["score"] == found["no_answer_score"] == pytest.approx(1 / 4)
    assert invoke({**asked, "context": "answer"}).json()["answer"] == "answer"
    assert invoke({**asked, "null_score_diff_threshold": "high"}).json()["error"]["field"] == (
        "null_score_diff_threshold"
    )


def test_the_precision_is_told_and_never_mixed() -> None:
    item = {"question": "q", "context": "answer"}
    assert invoke({**item, "precision": "INT8"}).headers["x-amzn-sagemaker-custom-attributes"] == "precision=int8"
    refused = invoke({**item, "precision": "fp32"})
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == "precision"
    assert "TargetVariant" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"hello", "invalid_json", None),
        (b"", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b"[" * 100_000, "invalid_field", "[0]"),
        (b"[]", "empty_list", None),
        (b'"text"', "invalid_field", None),
        ({"question": 1, "context": "x"}, "invalid_field", "question"),
        ({"question": "q"}, "invalid_field", None),
        ({"question": "q", "context": "c", "extra": 1}, "invalid_field", None),
        ({"question": " \n", "context": "x"}, "empty_field", "question"),
        ({"question": "q", "context": ""}, "empty_field", "context"),
        ([{"question": "q", "context": "c"}, {"question": "q", "context": ""}], "empty_field", "[1].context"),
        ([{"question": "q", "context": 7}], "invalid_field", "[0].context"),
        ([{"question": "q", "context": "c"}] * (MAX_ITEMS + 1), "too_many_items", None),
        ({"question": "q", "context": "word " * 50_000}, "context_too_long", "context"),
    ],
)
def test_a_bad_body_is_a_400_that_names_field_and_fix(body: object, code: str, field: str | None) -> None:
    response = invoke(body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == code
    assert error.get("field") == field
    assert len(error["message"]) > 20


def test_a_request_of_more_windows_than_one_may_cost_is_a_400_that_names_the_item_the_count_and_the_limit() -> None:
    items = [{"question": "q", "context": "word " * 600}] * 64
    response = invoke(items)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "too_many_windows"
    # 600 tokens are 14 windows of this model, so the tenth item passes the limit.
    assert error["field"] == "[9].context"
    assert error["message"].startswith(
        f"the first 10 of 64 items need 140 windows of the encoder; a request may have at most {MAX_WINDOWS}."
    )
    assert "Send fewer items or shorter contexts" in error["message"]


def test_what_comes_after_the_item_that_passes_the_limit_is_not_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenized: list[str] = []
    windows = Windower.windows

    def recorded(self: Windower, question: str, context: str) -> list[Window]:
        tokenized.append(question)
        return windows(self, question, context)

    monkeypatch.setattr(Windower, "windows", recorded)
    items = [{"question": f"q{number}", "context": "word " * 600} for number in range(64)]
    assert invoke(items).status_code == 400
    assert tokenized == [f"q{number}" for number in range(10)]


def test_a_request_of_exactly_the_most_windows_is_answered() -> None:
    items = [{"question": "q", "context": "word " * 90}] * (MAX_WINDOWS // 2)
    assert len(items) == MAX_ITEMS
    assert len(invoke(items).json()) == MAX_ITEMS


@pytest.mark.parametrize("text", [",", "\u65e5", "x", " x", "\u00e9", "[SEP]", "\u0301", "a\0"])
@pytest.mark.parametrize("name", ["question", "context"])
def test_text_of_more_characters_than_a_request_may_have_is_refused_before_it_is_tokenized(
    monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    monkeypatch.setattr(Windower, "windows", None)
    item = {"question": "q", "context": "c", name: text * (MAX_CHARACTERS // len(text) + 1)}
    response = invoke(json.dumps(item, ensure_ascii=False).encode())
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["field"]) == ("context_too_long", name)
    assert f"a request may have at most {MAX_CHARACTERS}. Send" in error["message"]


def test_the_characters_of_all_items_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Windower, "windows", None)
    response = invoke([{"question": "q", "context": "x" * (MAX_CHARACTERS // 4)}] * 5)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["field"]) == ("too_many_characters", "[3].context")
    assert f"the items up to this one have {MAX_CHARACTERS + 4} characters" in error["message"]


def test_a_context_that_is_too_long_alone_is_named_by_its_place_in_the_list() -> None:
    error = invoke([{"question": "q", "context": "c"}, {"question": "q", "context": "word " * 5000}]).json()["error"]
    assert (error["code"], error["field"]) == ("context_too_long", "[1].context")


def test_the_build_may_ask_for_more_windows_than_a_request() -> None:
    answers = question_answering().answer([Item("q", "word " * 600)] * 12)
    assert len(answers) == 12


@pytest.mark.parametrize(
    "text", ["who\0 answer", "\U0001f600 answer", "\u202eanswer", "e\u0301 answer", "\ufffd answer"]
)
def test_odd_text_is_answered_with_exact_offsets(text: str) -> None:
    answer = invoke({"question": text, "context": text}).json()
    assert text[answer["start"] : answer["end"]] == answer["answer"]


def test_a_lone_surrogate_is_answered_or_refused_but_never_crashes() -> None:
    assert invoke(b'{"question": "\\ud800", "context": "answer"}').status_code in (200, 400)


def test_a_body_over_the_limit_is_a_413() -> None:
    response = invoke(b'"' + b"a" * MAX_BODY_BYTES + b'"')
    assert response.status_code == 413
    assert str(MAX_BODY_BYTES) in response.json()["error"]["message"]


def test_another_media_type_is_a_415_and_parameters_are_ignored() -> None:
    assert invoke(b"a,b", content_type="text/csv").status_code == 415
    assert (
        invoke({"question": "q", "context": "answer"}, content_type="Application/JSON; charset=utf-8").status_code
        == 200
    )


@pytest.mark.parametrize(
    ("method", "url", "status"), [("GET", "/", 404), ("GET", "/invocations", 405), ("POST", "/ping", 405)]
)
def test_other_paths_and_methods_are_json_errors(method: str, url: str, status: int) -> None:
    (response,) = send([{"method": method, "url": url}])
    assert response.status_code == status
    assert "GET /ping and POST /invocations" in response.json()["error"]["message"]


def test_ping_answers() -> None:
    assert send([{"method": "GET", "url": "/ping"}])[0].status_code == 200


def test_a_full_queue_refuses_at_once_with_retry_after_and_loses_nothing() -> None:
    started, release = threading.Semaphore(0), threading.Event()

    def slow(invocation: Invocation) -> Answer:
        started.release()
        assert release.wait(timeout=10)
        return Answer(invocation.body)

    app = create_app(slow, ServingOptions(queue_capacity=2))

    async def go() -> tuple[httpx.Response, list[httpx.Response]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://container") as client:
            waiting = [asyncio.create_task(client.post("/invocations", content=str(i).encode())) for i in range(2)]
            await asyncio.to_thread(started.acquire)
            refused = await client.post("/invocations", content=b"x")
            release.set()
            return refused, await asyncio.gather(*waiting)

    refused, served = asyncio.run(go())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert [response.content for response in served] == [b"0", b"1"]


def test_a_client_that_never_finishes_its_body_gets_a_408() -> None:
    async def stalled() -> None:
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            await asyncio.Event().wait()
            raise AssertionError

        async def collect(message: dict[str, object]) -> None:
            sent.append(message)

        scope: dict[str, object] = {
            "type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations", "query_string": b"",
            "headers": [], "http_version": "1.1", "scheme": "http", "server": ("container", 80), "client": None,
        }  # fmt: skip
        app = create_app(lambda _invocation: Answer(b""), ServingOptions(body_timeout_seconds=0.05))
        await app(scope, receive, collect)  # type: ignore[arg-type]
        assert sent[0]["status"] == 408

    asyncio.run(stalled())


def test_a_failure_in_the_model_is_a_500_without_a_traceback_and_the_next_request_is_served() -> None:
    calls = iter([RuntimeError("secret detail"), None])

    def fails_once(_invocation: Invocation) -> Answer:
        if error := next(calls):
            raise error
        return Answer(b"fine")

    app = create_app(fails_once, ServingOptions())

    async def go() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://container") as client:
            return [await client.post("/invocations", content=b"1"), await client.post("/invocations", content=b"2")]

    first, second = asyncio.run(go())
    assert first.status_code == 500
    assert "secret" not in first.text
    assert second.content == b"fine"


@pytest.mark.parametrize(("packs", "wanted"), [(False, [32, 64]), (True, [64])])
def test_warm_up_runs_every_second_bucket_or_the_longest_row_of_an_engine_that_packs(
    packs: bool, wanted: list[int]
) -> None:
    lengths: list[int] = []

    class Recorder(PointsAtTheWordAnswer):
        def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
            lengths.append(batch.input_ids.shape[1])
            return super().infer(batch)

    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    recorder = Recorder()
    recorder.packs = packs
    QuestionAnswering(recorder, Windower(tokenizer, WindowLimits(64, 16, 16))).warm_up()
    assert lengths == wanted
