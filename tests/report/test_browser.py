"""The pages in a browser: Chromium without a window."""

import shutil

import pytest

from avq.report.page import page
from avq.report.prior_page import prior_page

from .report_helpers import (
    made_comparison,
    made_generated,
    made_inside,
    made_prior_report,
    made_report,
)

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver (apt-get install)"
)
# No window, no sandbox (root has none), and no traffic of the browser's own.
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync disable-dev-shm-usage"
)
BROKEN = "return [...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
WIDTHS = "return [document.scrollingElement.scrollWidth, innerWidth]"
COLOURS = (
    "return [document.body, document.querySelector('svg text')]"
    ".map((e, i) => getComputedStyle(e)[i ? 'fill' : 'backgroundColor'])"
)


@pytest.fixture(scope="module", params=["autoencoder", "prior"])
def browser(request, tmp_path_factory):
    """A driver of the browser, with a page open."""
    from selenium import webdriver

    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    file = folder / "page.html"
    if request.param == "prior":
        text = prior_page(made_prior_report(3), made_generated(3))
    else:
        text = page(made_report(3, comparison=made_comparison()), made_inside(3))
    file.write_text(text, encoding="utf-8")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        driver.get(file.as_uri())
        yield driver
    finally:
        driver.quit()


def show(browser, width, scheme):
    """Sets the width of the screen in pixels, and light or dark."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.refresh()


def brightness(colour):
    """Mean of the channels of 'rgb(r, g, b)'."""
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


@pytest.mark.parametrize("width", [360, 1280])
def test_page_is_whole_and_does_not_scroll_sideways(browser, width):
    show(browser, width, "light")
    assert browser.execute_script("return document.images.length") > 25
    assert browser.execute_script(BROKEN) == 0
    content, screen = browser.execute_script(WIDTHS)
    assert screen == width
    assert content <= screen
    assert browser.get_log("browser") == []


def test_text_and_charts_stand_out_on_light_and_on_dark(browser):
    for scheme, is_light in (("light", True), ("dark", False)):
        show(browser, 360, scheme)
        paper, ink = map(brightness, browser.execute_script(COLOURS))
        assert (paper > ink) == is_light
        assert abs(paper - ink) > 120
