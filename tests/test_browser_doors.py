"""The locked program in a real Chromium: the password, the page's policy, and other sites' pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipelines.library.models import ModelLibrary
from pipelines.pictures import PictureStore
from pipelines.worker import Worker
from tests.support.browser import Newcomer
from tests.support.served import served, serving
from tests.test_doors import StillEngine

pytestmark = pytest.mark.browser

TABS = ("Image", "Inpaint", "Control", "Explore", "Gallery", "Models", "Text")
VIOLATIONS = (
    "document.addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective))"
)
ATTACK = """async (address) => {
    const tried = {};
    const say = (name, given) => fetch(address + given[0], given[1]).then(
        (answer) => { tried[name] = answer.type === 'opaque' ? 'opaque' : String(answer.status); },
        () => { tried[name] = 'refused'; });
    const json = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' };
    await say('json', ['/gradio_api/queue/join', { ...json, credentials: 'include' }]);
    await say('read', ['/config', { credentials: 'include' }]);
    await say('simple', ['/gradio_api/component_server', { method: 'POST', mode: 'no-cors', body: '{}' }]);
    return tried;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    with (
        Worker(StillEngine(), ModelLibrary([]), PictureStore(data / "inputs")) as worker,
        served(worker, data, auth=("ann", "secret words")) as url,
    ):
        yield url


@pytest.fixture
def page(newcomer: Newcomer) -> Iterator[Page]:
    with newcomer() as page:
        yield page


def sign_in(page: Page, password: str) -> None:
    page.get_by_label("username", exact=False).first.fill("ann")
    page.get_by_label("password", exact=False).first.fill(password)
    page.get_by_role("button", name="Login").click()


def test_who_knows_the_password_comes_in_and_the_policy_hinders_nothing(page: Page, address: str) -> None:
    page.add_init_script(f"window.violations = []; {VIOLATIONS}")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    sign_in(page, "wrong words")
    expect(page.get_by_text("Incorrect credentials", exact=False)).to_be_visible()
    assert page.get_by_label("Prompt", exact=True).count() == 0
    sign_in(page, "secret words")
    prompt = page.get_by_label("Prompt", exact=True)
    expect(prompt).to_be_visible()
    # What stands in a prompt or a text is words; a script that got in all the same would not run.
    prompt.fill("<img src=x onerror='window.got_in = 1'>")
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        expect(page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
    assert page.evaluate("window.violations") == []
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.got_in = 1\">')"
    )
    page.wait_for_function("violations.some((name) => name.startsWith('script-src'))")
    assert page.evaluate("window.got_in") is None


def test_another_sites_page_gets_nothing_from_who_is_signed_in(page: Page, address: str) -> None:
    """Also one on this machine, which for cookies is the same site."""

    async def foreign(request: Request) -> Response:
        return HTMLResponse(f'<h1>Elsewhere</h1><iframe src="{address}"></iframe>')

    with serving(Starlette(routes=[Route("/", foreign)])) as elsewhere:
        page.goto(address)
        sign_in(page, "secret words")
        expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
        page.goto(elsewhere)
        expect(page.get_by_role("heading", name="Elsewhere")).to_be_visible()
        tried = page.evaluate(ATTACK, address)
        assert tried == {"json": "refused", "read": "refused", "simple": "refused"}
        framed = page.frames[1]
        assert framed.get_by_label("Prompt", exact=True).count() == 0
