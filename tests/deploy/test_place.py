import pytest

from pock_tvm.deploy import Place, parse_place
from pock_tvm.deploy.connection import Connection
from pock_tvm.errors import DeployError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ssh://pi@berry/home/pi/net", ("ssh", "pi@berry", None, "/home/pi/net")),
        ("ssh://berry:2222/net/", ("ssh", "berry", 2222, "/net")),
        ("ssh://pi@berry/~/my%20net", ("ssh", "pi@berry", None, "my net")),
        ("ssh://pi@[fe80::1]:22/n", ("ssh", "pi@[fe80::1]", 22, "/n")),
        ("adb://R58M123/data/local/tmp/n", ("adb", "R58M123", None, "/data/local/tmp/n")),
        ("adb://10.0.0.2:5555/data/n", ("adb", "10.0.0.2:5555", None, "/data/n")),
        ("file:///tmp/net", ("file", "", None, "/tmp/net")),
    ],
)
def test_a_url_is_taken_apart(url, expected):
    scheme, host, port, path = expected
    assert parse_place(url) == Place(scheme=scheme, host=host, port=port, path=path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://berry/net", "is no place; write ssh"),
        ("berry:/net", "is no place"),
        ("ssh://berry", "names no folder"),
        ("ssh://berry/", "names no folder"),
        ("ssh://berry/~", "names no folder"),
        ("ssh://berry/a%0ab", "names no folder"),
        ("ssh://berry:x/net", "is no place"),
        ("ssh://berry:99999/net", "is no place"),
        ("ssh://pi:secret@berry/net", "holds a password"),
        ("ssh://-oProxyCommand=x/net", "a host that is no name"),
        ("ssh://a@-oProxyCommand=x/net", "a host that is no name"),
        ("ssh://-l@berry/net", "a host that is no name"),
        ("ssh://be rry/net", "a host that is no name"),
        ("adb:///data/net", "a host too many or too few"),
        ("file://host/net", "a host too many or too few"),
    ],
)
def test_what_is_no_place_is_refused(url, message):
    with pytest.raises(DeployError, match=message) as raised:
        parse_place(url)
    assert "\n" not in str(raised.value)


def test_what_varies_is_an_argument_and_never_a_part_of_the_script():
    hostile = "/tmp/$(touch x); rm -rf '~' \"&"
    for url in ("ssh://pi@berry/n", "adb://R58/n"):
        command = Connection(parse_place(url)).command('cat "$1"', hostile)
        assert command[-1].startswith("sh -c 'cat \"$1\"' sh '/tmp/$(touch x); rm -rf ")
    command = Connection(parse_place("ssh://pi@berry:99/n")).command("true")
    assert command[-5:] == ["-p", "99", "--", "pi@berry", "sh -c true sh"]
