"""Who may ask the server of a run."""

from http.cookies import SimpleCookie

import pytest

from pipelines.serve.access import Access, Refused

LOCAL = "127.0.0.1:7860"


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:9000", "LOCALHOST", "[::1]:7860"])
def test_names_of_this_machine_are_answered_on_any_port(host: str) -> None:
    Access("127.0.0.1", is_network=False).check_host(host)


@pytest.mark.parametrize(
    "host", [None, "", "rebound.example:7860", "127.0.0.1.example", "10.0.0.7:7860", "[::1", "a@b"]
)
def test_other_names_are_refused(host: str | None) -> None:
    with pytest.raises(Refused, match="this server has no name"):
        Access("127.0.0.1", is_network=False).check_host(host)


def test_the_address_that_the_server_listens_on_is_one_of_its_names() -> None:
    Access("127.0.0.2", is_network=False).check_host("127.0.0.2:7860")
    with pytest.raises(Refused):
        Access("127.0.0.2", is_network=False).check_host("127.0.0.3:7860")


def test_on_a_network_addresses_are_answered_and_foreign_names_are_not() -> None:
    access = Access("0.0.0.0", is_network=True)
    access.check_host("10.0.0.7:7860")
    with pytest.raises(Refused):
        access.check_host("rebound.example:7860")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.7", "gpu.example", "::"])
def test_other_addresses_than_loopback_need_a_statement(host: str) -> None:
    with pytest.raises(ValueError, match="say --network"):
        Access(host, is_network=False)


@pytest.mark.parametrize(
    ("origin", "site"),
    [(None, None), ("null", None), ("http://rebound.example", None), ("https://127.0.0.1:7860", None),
     ("http://127.0.0.1:1", None), (f"http://{LOCAL}", "cross-site")],
)  # fmt: skip
def test_changes_come_from_the_page_itself(origin: str | None, site: str | None) -> None:
    access = Access("127.0.0.1", is_network=False)
    access.check_origin(f"http://{LOCAL}", LOCAL, "same-origin")
    with pytest.raises(Refused, match="the server's own page"):
        access.check_origin(origin, LOCAL, site)


def test_the_token_counts_in_the_address_and_in_the_cookie_of_this_server() -> None:
    access, other = Access("127.0.0.1", is_network=False), Access("127.0.0.1", is_network=False)
    cookie = access.set_cookie.partition(";")[0]
    access.check_token(access.token, None)
    access.check_token(None, f"a=b; {cookie}")
    flags = SimpleCookie(access.set_cookie)[access.cookie]
    assert flags["httponly"] and flags["samesite"] == "Strict"
    for given, cookies in ((None, None), ("", ""), (other.token, None), (None, other.set_cookie), (None, "é=;;=")):
        with pytest.raises(Refused, match="it has a token"):
            access.check_token(given, cookies)
