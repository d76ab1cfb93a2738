"""Chromium for the tests of the page: what a test does and looks at, in few words."""

import json
import time

from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

INTERACTIVE = {
    "button",
    "textbox",
    "slider",
    "combobox",
    "switch",
    "radio",
    "link",
    "checkbox",
    "progressbar",
    "textArea",
    "searchbox",
    "menuitem",
    "dialog",
    "radiogroup",
    "navigation",
    "complementary",
    "region",
    "form",
}

# Texts whose contrast with what is behind them is below 4.5, or 3 for large ones.
CONTRAST = r"""
const parse = (text) => {
  const match = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/.exec(text);
  if (!match) throw new Error(`unknown colour ${text}`);
  return [match[1], match[2], match[3], match[4] ?? 1].map(Number);
};
const over = (top, bottom) => [0, 1, 2].map((i) => top[i] * top[3] + bottom[i] * (1 - top[3])).concat(1);
const luminance = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
  const layers = [];
  for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
};
const isShown = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (style.display === 'none' || style.visibility === 'hidden' || style.opacity === '0' || at.inert) return false;
    if (at.matches('.away, .skip, :disabled')) return false;
  }
  return node.getClientRects().length > 0;
};
const found = [];
const check = (node, colour, text) => {
  const back = behind(node);
  const front = over(parse(colour), back);
  const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  const style = getComputedStyle(node);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className} "${text.trim().slice(0, 40)}"`);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (walker.currentNode.data.trim() && isShown(node)) check(node, getComputedStyle(node).color, walker.currentNode.data);
}
for (const field of document.querySelectorAll('textarea, input')) {
  if (field.placeholder && isShown(field)) check(field, getComputedStyle(field, '::placeholder').color, field.placeholder);
}
return found;
"""


class Browser:
    def __init__(self, chromium, chromedriver):
        options = Options()
        options.binary_location = chromium
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
        ]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(chromedriver))
        self.driver.set_script_timeout(30)
        self.base = ""
        self.injected = []

    def quit(self):
        self.driver.quit()

    def cdp(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    # --- pages ---

    def size(self, width, height, scheme="light", reduced=False):
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.cdp(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {
                    "name": "prefers-reduced-motion",
                    "value": "reduce" if reduced else "no-preference",
                },
            ],
        )

    def before_page(self, script):
        """Runs `script` before the page's own, until the next `fresh`."""
        self.injected.append(
            self.cdp("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
        )

    def fresh(self, base):
        """The page as somebody sees it who was never there."""
        for identifier in self.injected:
            self.cdp("Page.removeScriptToEvaluateOnNewDocument", identifier=identifier)
        self.injected = []
        self.base = base
        self.driver.get(base + "/health")
        self.run("try { sessionStorage.clear(); } catch {}")
        self.cdp("Storage.clearDataForOrigin", origin=base, storageTypes="all")
        self.driver.get_log("browser")
        self.driver.get_log("performance")

    def load(self, base=None, begun=True):
        self.driver.get((base or self.base) + "/")
        if begun:
            self.wait(lambda: self.has("body.begun"), "the page begins")

    # --- elements ---

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def has(self, selector):
        return bool(
            self.run(
                "const node = document.querySelector(arguments[0]); return Boolean(node && node.getClientRects().length);",
                selector,
            )
        )

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? '';", selector)

    def buttons(self, words, within):
        """Those that are shown and seem to be called so; the browser's own word costs a call for each."""
        return self.run(
            """return [...document.querySelectorAll(arguments[0] + ' button')].filter((node) => node.getClientRects().length &&
                           (node.getAttribute('aria-label') ?? node.textContent).trim() === arguments[1]);""",
            within,
            words,
        )

    def button(self, words, within="body"):
        for _ in range(40):
            for node in self.buttons(words, within):
                try:
                    if node.is_displayed() and node.accessible_name == words:
                        return node
                except StaleElementReferenceException:
                    continue
            time.sleep(0.03)
        raise AssertionError(f"there is no button '{words}' in {within}")

    def has_button(self, words, within="body"):
        return bool(self.buttons(words, within))

    def click(self, words, within="body"):
        """Where the button is when it has stopped moving: panels slide, and texts that arrive push others away.
        One that is made anew meanwhile is looked for again."""
        for _ in range(50):
            node = self.button(words, within)
            try:
                if self.rests(node):
                    self.actions().move_to_element(node).click().perform()
                    return
            except (StaleElementReferenceException, JavascriptException):
                continue
        raise AssertionError(f"the button '{words}' in {within} does not stand still")

    def rests(self, node):
        """Whether it is in the same place for three pictures of the screen."""
        return self.driver.execute_async_script(
            """
            const [node, done] = arguments;
            const place = () => {
              const box = node.getBoundingClientRect();
              return node.isConnected ? `${box.x} ${box.y} ${box.width} ${box.height}` : null;
            };
            const before = place();
            const look = (left) => requestAnimationFrame(() => {
              if (place() !== before || before === null) done(false);
              else if (left > 1) look(left - 1);
              else done(true);
            });
            look(3);""",
            node,
        )

    def actions(self):
        """Of the pointer and the keys. The pointer jumps: otherwise it takes a quarter of a second for each way."""
        return ActionChains(self.driver, duration=0)

    def keys(self, *keys):
        self.actions().send_keys(*keys).perform()

    def wait_for_rest(self):
        """Until nothing slides and no colour changes."""
        self.wait(
            lambda: self.run(
                """const ends = (one) => one.effect.getTiming().iterations !== Infinity;
                   return !document.getAnimations().some((one) => one.playState === 'running' && ends(one));"""
            ),
            "animations end",
        )

    def focused(self):
        return self.run(
            "const node = document.activeElement; return node.getAttribute('aria-label') || node.id || node.textContent;"
        )

    def wait(self, condition, what, seconds=60.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                value = condition()
                if value:
                    return value
            except StaleElementReferenceException:
                pass
            time.sleep(0.04)
        raise AssertionError(
            f"did not happen within {seconds} s: {what}; document: {self.text('#document')!r}, "
            f"messages end: {self.text('#messages')[-300:]!r}, banner: {self.text('#banner')!r}, toast: {self.text('#toast')!r}"
        )

    # --- what was seen ---

    def problems(self, expected=()):
        """Errors and warnings of the console, without those that contain a text of `expected`."""
        entries = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")
        ]
        return [entry for entry in entries if not any(text in entry for text in expected)]

    def requests(self):
        addresses = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                parameters = message["params"]
                addresses.append(
                    parameters["request"]["url"] if "request" in parameters else parameters["url"]
                )
        return addresses

    def nameless(self):
        """Nodes of the accessibility tree that a person must be able to name, but cannot."""
        nodes = self.cdp("Accessibility.getFullAXTree")["nodes"]
        found = []
        for node in nodes:
            role = node.get("role", {}).get("value")
            if (
                not node.get("ignored")
                and role in INTERACTIVE
                and not node.get("name", {}).get("value")
            ):
                found.append(f"{role} {node.get('nodeId')}")
        return found

    def low_contrast(self):
        return self.run(CONTRAST)

    def too_wide(self):
        """Elements that reach beyond the window although nothing lets them scroll."""
        return self.run(r"""
const width = document.documentElement.clientWidth;
const found = [];
if (document.documentElement.scrollWidth > width) found.push(`page ${document.documentElement.scrollWidth}`);
for (const node of document.querySelectorAll('#main *, #kept *, #start *')) {
  if (node.closest('.away, [inert], pre, .table, svg')) continue;
  const box = node.getBoundingClientRect();
  if (box.width && box.right > width + 1) found.push(`${node.tagName}.${node.className} ends at ${Math.round(box.right)}`);
}
for (const selector of ['#scroll', '.kept-text', '#kept', '#sidebar', '#main']) {
  const node = document.querySelector(selector);
  if (node && node.scrollWidth > node.clientWidth + 1) found.push(`${selector} scrolls sideways`);
}
return found;""")
