"""Pages as trees, forms as a person fills them in."""

from __future__ import annotations

import pytest

from migrationhub.lab.demo.dom import parse
from migrationhub.lab.demo.forms import Form, PageProblem, forms_of, grey_buttons

PAGE = """
<main id="main"><h1>Plan</h1>
<form method="post" action="/plan/"><input type="hidden" name="csrfmiddlewaretoken" value="t0ken">
  <label for="n">Name</label><input id="n" name="name" value="old">
  <label for="s">Network</label><select id="s" name="network"><option value="">Choose</option>
    <option value="7">Production VLAN 20</option><option value="9">Migration VLAN 66</option></select>
  <textarea name="lines">
one
two</textarea>
  <label><input type="checkbox" name="places" value="source" checked> Source</label>
  <label><input type="checkbox" name="places" value="clone"> Clone</label>
  <label><input type="checkbox" name="insecure"> Insecure</label>
  <label for="r1">Works</label><input type="radio" id="r1" name="state" value="done">
  <label for="r2">Broken</label><input type="radio" id="r2" name="state" value="failed" checked>
  <input name="old" disabled value="x">
  <button type="submit">Save</button><button type="submit" name="load" value="1">Load choices</button>
</form>
<button type="button" aria-disabled="true" aria-describedby="why">Stop services</button><p id="why">Not signed.</p>
</main>"""


def form() -> Form:
    return forms_of(parse(PAGE), "/here/")[0]


def test_an_untouched_form_sends_what_a_browser_would() -> None:
    assert form().data() == [
        ("csrfmiddlewaretoken", "t0ken"),
        ("name", "old"),
        ("network", ""),
        ("lines", "one\ntwo"),
        ("places", "source"),
        ("state", "failed"),
    ]


def test_choices_are_made_by_their_visible_label() -> None:
    filled = form().fill(
        name="shop", network="Migration", lines=["a", "b"], places=["Source", "Clone"], insecure=True, state="Works"
    )
    assert filled.data(filled.buttons[1]) == [
        ("csrfmiddlewaretoken", "t0ken"),
        ("name", "shop"),
        ("network", "9"),
        ("lines", "a\nb"),
        ("places", "source"),
        ("places", "clone"),
        ("insecure", "on"),
        ("state", "done"),
        ("load", "1"),
    ]


def test_a_choice_that_is_not_offered_is_named_with_what_is() -> None:
    with pytest.raises(PageProblem, match="“Storage”; it offers “Choose”, “Production VLAN 20”, “Migration VLAN 66”"):
        form().fill(network="Storage")


def test_a_label_that_fits_several_choices_is_refused() -> None:
    with pytest.raises(PageProblem, match="has several choices with “VLAN”"):
        form().fill(network="VLAN")


def test_an_exact_label_goes_before_one_that_contains_it() -> None:
    page = '<form><select name="i"><option value="1">Debian 12 networkd</option><option value="2">Debian 12</option>'
    assert forms_of(parse(page), "/")[0].fill(i="Debian 12").data() == [("i", "2")]


def test_a_field_that_the_form_does_not_have_is_named() -> None:
    with pytest.raises(PageProblem, match=r"form for /plan/ has no field “color”; it has csrfmiddlewaretoken, name"):
        form().fill(color="red")


def test_a_form_without_action_goes_back_to_its_page() -> None:
    assert forms_of(parse("<form method=post><input name=a></form>"), "/here/?kind=key")[0].action == "/here/?kind=key"


def test_a_grey_button_is_no_button_of_a_form_and_tells_why() -> None:
    tree = parse(PAGE)
    assert [(button.label, button.why) for button in grey_buttons(tree)] == [("Stop services", "Not signed.")]
    assert [button.label for button in form().buttons] == ["Save", "Load choices"]


def test_text_leaves_scripts_and_icons_out_and_keeps_words_apart() -> None:
    tree = parse("<p>One<br><b>two</b><svg><title>no</title></svg><script>var x</script>&amp; three</p>")
    assert tree.text == "One two & three"


def test_an_element_without_end_tag_ends_with_its_parent() -> None:
    tree = parse("<ul><li>a<li>b</ul><p id=after>c</p>")
    after = tree.by_id("after")
    assert after is not None
    assert after.text == "c"
