"""The list of loaded models: its order, pages, limits and tokens."""

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.containers.multi_model_client import ask, container, error, load, names, talk, unload


def test_the_list_is_in_order_of_names_and_says_where_each_came_from() -> None:
    async def scenario(client: httpx.AsyncClient) -> Any:
        for name in ("utah", "Iowa", "ohio"):
            await load(client, name)
        await ask(client, "utah")
        return (await client.get("/models")).json()

    assert talk(container(), scenario) == {
        "models": [{"modelName": name, "modelUrl": f"/opt/ml/models/{name}/model"} for name in ("Iowa", "ohio", "utah")]
    }


@pytest.mark.parametrize(
    ("count", "limit", "pages"),
    [(0, 2, [0]), (1, 2, [1]), (2, 2, [2]), (3, 2, [2, 1]), (4, 2, [2, 2]), (3, 1, [1, 1, 1]), (3, 1000, [3])],
)
def test_a_page_has_a_token_only_when_more_follow(count: int, limit: int, pages: list[int]) -> None:
    async def scenario(client: httpx.AsyncClient) -> list[int]:
        for number in range(count):
            await load(client, f"model {number}")
        lengths, query = [], {"limit": str(limit)}
        while True:
            page = (await client.get("/models", params=query)).json()
            lengths.append(len(page["models"]))
            if "nextPageToken" not in page:
                return lengths
            query["next_page_token"] = page["nextPageToken"]

    assert talk(container(), scenario) == pages


def test_a_page_without_a_limit_holds_a_thousand() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for number in range(1001):
            await load(client, f"{number:04}")
        page = (await client.get("/models")).json()
        assert len(page["models"]) == 1000
        assert await names(client, next_page_token=page["nextPageToken"]) == ["1000"]

    talk(container(), scenario)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.sets(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1), max_size=12),
    st.integers(1, 14),
)
def test_the_pages_of_any_limit_together_are_the_list(loaded: set[str], limit: int) -> None:
    async def scenario(client: httpx.AsyncClient) -> list[str]:
        for name in loaded:
            assert (await load(client, name, "/m")).status_code == 200
        listed: list[str] = []
        query: dict[str, str] = {"limit": str(limit)}
        while True:
            page = (await client.get("/models", params=query)).json()
            listed += [model["modelName"] for model in page["models"]]
            if "nextPageToken" not in page:
                return listed
            query["next_page_token"] = page["nextPageToken"]

    assert talk(container(), scenario) == sorted(loaded)


def test_models_that_come_and_go_between_pages_neither_repeat_nor_hide_others() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for name in ("b", "d", "f", "h"):
            await load(client, name)
        first = (await client.get("/models", params={"limit": 2})).json()
        assert [model["modelName"] for model in first["models"]] == ["b", "d"]
        for name in ("a", "e"):
            await load(client, name)
        for name in ("d", "f"):
            await unload(client, name)
        assert await names(client, next_page_token=first["nextPageToken"]) == ["e", "h"]
        assert await names(client) == ["a", "b", "e", "h"]

    talk(container(), scenario)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "", "1.5", "1e2", "9" * 5000])
def test_a_limit_out_of_range_is_a_400(limit: str) -> None:
    response = talk(container(), lambda client: client.get("/models", params={"limit": limit}))
    assert response.status_code == 400
    assert (error(response)["code"], error(response)["field"]) == ("invalid_field", "limit")
    assert error(response)["message"].endswith("it must be 1 to 1000")


@pytest.mark.parametrize("token", ["!", "!!!!", "b2hpbw", "b2hpbw==b2hpbw==", "_w==", "ohio", "b2 hpbw==", "ü"])
def test_a_token_that_no_list_gave_is_a_400_and_never_the_first_page_again(token: str) -> None:
    response = talk(container(), lambda client: client.get("/models", params={"next_page_token": token}))
    assert response.status_code == 400
    assert error(response) == {
        "code": "invalid_field",
        "field": "next_page_token",
        "message": f"next_page_token is {token!r}: send a nextPageToken from this list, or none",
    }
