"""API keys and host names."""

from __future__ import annotations

import base64

import pytest
from fastapi.testclient import TestClient

from nextscale.web.guard import given_key, host_name
from nextscale.web.server import address_of, build_app, is_loopback, open_socket

KEY = "s3cret-ключ"
ROUTES = ["/v1/models", "/v1/images/generations", "/v1/images/edits", "/metrics", "/openapi.json", "/", "/nothing"]


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture
def locked(start) -> TestClient:
    return TestClient(build_app(start(), key=KEY))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Bearer  ", basic("me:wrong"), "Basic ?", KEY])
def test_with_a_key_every_route_but_health_asks_for_it(locked, route, header):
    headers = {"Authorization": header.encode()} if header is not None else {}
    for method in ("GET", "POST"):
        response = locked.request(method, route, headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key" and KEY not in response.text
        assert response.headers["WWW-Authenticate"].startswith("Basic")  # so that a browser asks its user
    assert locked.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", basic(f"anyone:{KEY}"), basic(f":{KEY}")])
def test_the_key_opens(locked, header):
    headers = {"Authorization": header.encode()}
    assert locked.get("/v1/models", headers=headers).status_code == 200
    assert locked.get("/metrics", headers=headers).status_code == 200
    response = locked.post("/v1/images/generations", json={"prompt": "hat"}, headers=headers)
    assert response.status_code == 200


def test_keys_are_compared_in_constant_time(locked, monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((a, b)) or False)
    locked.get("/v1/models", headers={"Authorization": "Bearer wrong"})
    assert compared == [(b"wrong", KEY.encode())]


def test_keys_in_headers():
    assert given_key("Bearer a b") == b"a b"
    assert given_key(basic("user:a:b")) == b"a:b"
    assert given_key("Digest a") == given_key("") == given_key("Basic /") == b""


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "LOCALHOST"])
def test_names_that_the_server_goes_by(start, host):
    client = TestClient(build_app(start(), hosts={"localhost", "127.0.0.1", "::1"}))
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[::2]", "["])
def test_names_that_it_does_not_go_by(start, host):
    client = TestClient(build_app(start(), hosts={"localhost", "127.0.0.1", "::1"}))
    response = client.get("/v1/models", headers={"Host": host})
    assert response.status_code == 421 and response.json()["error"]["code"] == "unknown_host"
    assert TestClient(build_app(start())).get("/v1/models", headers={"Host": host}).status_code == 200


def test_host_names():
    assert [host_name(h) for h in ("A.example:1", "[::1]", "[::1]:80")] == ["a.example", "::1", "::1"]


def preflight(client: TestClient) -> dict[str, str]:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    return dict(client.options("/v1/images/generations", headers=headers).headers)


def test_other_pages_may_not_use_the_api_unless_told(start):
    assert "access-control-allow-origin" not in preflight(TestClient(build_app(start())))
    client = TestClient(build_app(start()))
    response = client.get("/v1/models", headers={"Origin": "https://a.example"})
    assert response.status_code == 403 and "access-control-allow-origin" not in response.headers


def test_pages_that_may_use_the_api(start):
    client = TestClient(build_app(start(), key=KEY, cors_origins=["https://a.example"]))
    assert preflight(client)["access-control-allow-origin"] == "https://a.example"  # which carries no key
    refused = client.get("/v1/models", headers={"Origin": "https://a.example"})
    assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "https://a.example"
    other = client.get("/v1/models", headers={"Origin": "https://b.example"})
    assert other.status_code == 403 and "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "host, expected", [("127.0.0.1", 1), ("127.9.9.9", 1), ("::1", 1), ("localhost", 1), ("0.0.0.0", 0)]
)
def test_which_addresses_are_of_this_machine_alone(host, expected):
    assert is_loopback(host) == bool(expected)
    assert not is_loopback("example.com") and not is_loopback("192.168.0.1")


def test_an_address_is_printed_as_browsers_take_it():
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://127.0.0.1:{port}"
