"""docs/troubleshooting.md has every message of the packages."""

import pytest

from scripts.error_messages import BEGIN, PAGE, Message, listed, messages, messages_of

HOW = "run `python -m scripts.error_messages`, and look whether the page should say more about it"


def test_every_message_is_on_the_page():
    shown = set(PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].splitlines())
    current = set(listed(messages()).splitlines())
    assert not sorted(current - shown), f"missing: {HOW}"
    assert not sorted(shown - current), f"gone from the code: {HOW}"


def test_a_new_message_would_be_missed():
    (new,) = messages_of("def f(x):\n    raise ValueError(f'`x`={x} is a new thing; pass an old one.')\n", "new.py")
    assert new == Message("new.py", "ValueError", "`x`=… is a new thing; pass an old one.")
    assert listed([new]).splitlines()[-1] not in PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("raise OSError(errno.EIO, 'not all frames arrived')", [("OSError", "not all frames arrived")]),
        ("warnings.warn(f'{a} breaks off ' + 'too early')", [("warning", "… breaks off too early")]),
        ("text = f'the value {a} is wrong'\n    raise ValueError(text)", [("ValueError", "the value … is wrong")]),
        ("raise errors.StrangeError('something of our own')", [("StrangeError", "something of our own")]),
        ("def g():\n        raise ValueError('said by an inner one')", [("ValueError", "said by an inner one")]),
        ("raise ValueError(text(a))", []),
        ("raise StopIteration", []),
        ("raise ValueError('short')", []),
        ("source.break_off(a, 'the disk is gone')", [("warning", "the disk is gone")]),
    ],
)
def test_messages_are_read_from_the_source(body, wanted):
    found = list(messages_of(f"def f(a):\n    {body}\n", "x.py"))
    assert [(one.kind, one.text) for one in found] == wanted
