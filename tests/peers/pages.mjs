// Drives the server's pages in Chromium; prints, as JSON, what somebody sees and where they get.
// Its one argument is JSON: {chromium, origin, links: {name: authorize URL}, user, password,
// branded: the origin of a server with a logo, elsewhere: {link: an authorize URL at a server with
// upstreams, button: of one}, demo: the URL of the demo's app's page, wall: the client of a
// device with a long name, and its scopes, pictures: a directory, wrongs: how many wrong passwords
// until the throttle holds}.
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage', `--host-resolver-rules=${plan.hosts}`],
});
const seen = { looks: {}, flows: {}, bars: {}, violations: [], console: [] };

async function fresh(options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  page.on('console', (message) => seen.console.push(message.text()));
  page.setDefaultTimeout(15000);
  return page;
}

// --- How each page looks: pictures, accessibility, nothing wider than the screen.

const appearances = {
  light: { colorScheme: 'light', viewport: { width: 1000, height: 800 } },
  dark: { colorScheme: 'dark', viewport: { width: 1000, height: 800 } },
  phone: { colorScheme: 'light', viewport: { width: 360, height: 720 }, deviceScaleFactor: 2 },
  'phone-dark': { colorScheme: 'dark', viewport: { width: 360, height: 720 }, deviceScaleFactor: 2 },
};
// What else is looked at, and where the consent's buttons are; `zoomed` is the laptop at 200 %.
const screens = {
  laptop: { viewport: { width: 1280, height: 720 } },
  'small phone': { viewport: { width: 360, height: 640 }, isMobile: true, deviceScaleFactor: 2 },
  zoomed: { viewport: { width: 640, height: 360 }, deviceScaleFactor: 2 },
};

async function look(page, appearance, name) {
  await page.screenshot({ path: `${plan.pictures}/${name}-${appearance}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, nodes } of violations) {
    seen.violations.push(`${name} ${appearance}: ${id}: ${nodes.map((node) => node.html)}`);
  }
  const measured = await page.evaluate(() => ({
    title: document.title,
    background: getComputedStyle(document.body).backgroundColor,
    tooWide: document.documentElement.scrollWidth > innerWidth,
    smallest: Math.min(...[...document.querySelectorAll('button, input:not([type=hidden]), a')]
      .filter((each) => !each.matches('[type=checkbox], .link, p a:not(.button)'))
      .map((each) => each.getBoundingClientRect().height)),
  }));
  const checked = passes.map((each) => each.id);
  seen.looks[`${name} ${appearance}`] = { ...measured, checked };
}

async function enter(page, password) {
  await page.getByLabel('Username').fill(plan.user);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

for (const [appearance, options] of Object.entries(appearances)) {
  const page = await fresh(options);
  await page.goto(plan.links.notes);
  await look(page, appearance, 'login');
  await enter(page, 'a wrong password');
  await look(page, appearance, 'wrong');
  await enter(page, plan.password);
  await look(page, appearance, 'consent');
  await page.goto(plan.links.many);
  await look(page, appearance, 'many');
  await page.goto(`${plan.origin}/oauth/logout`);
  await look(page, appearance, 'signed-in');
  await page.keyboard.press('Tab');
  await tabTo(page, 'Sign out');
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Sign in again' }).waitFor();
  await look(page, appearance, 'signed-out');
  await page.goto(plan.links.broken);
  await look(page, appearance, 'error');
  await page.goto(plan.links.astray);
  await look(page, appearance, 'astray');
  await page.goto(`${plan.origin}/oauth/nowhere`);
  await look(page, appearance, 'unknown');
  await page.goto(plan.origin);
  await look(page, appearance, 'start');
  await page.goto(plan.demo);
  await look(page, appearance, 'demo');
  await page.context().close();
}

// --- With a logo and colors.

for (const appearance of ['light', 'dark', 'phone']) {
  const page = await fresh(appearances[appearance]);
  await page.goto(`${plan.branded}/oauth/login`);
  await enter(page, 'a wrong password');
  await look(page, appearance, 'branded');
  seen.flows.logo = await page.locator('img').evaluate((each) => [each.complete, each.naturalWidth]);
  await page.context().close();
}

// --- With upstreams that cannot be reached, by keyboard.

for (const [appearance, options] of Object.entries(appearances)) {
  const page = await fresh(options);
  await page.goto(plan.elsewhere.link);
  await look(page, appearance, 'upstreams');
  await page.keyboard.press('Tab');
  await tabTo(page, plan.elsewhere.button);
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Start again' }).waitFor();
  await look(page, appearance, 'upstream-failure');
  seen.flows.failure = await page.getByRole('main').innerText();
  await page.keyboard.press('Tab');
  await tabTo(page, 'Start again');
  await page.keyboard.press('Enter');
  await page.getByLabel('Username').waitFor();
  await page.context().close();
}

// --- The consent's buttons: in view at once, and in front of nothing.

// A link with the user code of a device that asks for 20 scopes.
async function deviceLink() {
  const body = new URLSearchParams(plan.wall);
  const asked = await fetch(`${plan.origin}/oauth/device_authorization`, { method: 'POST', body });
  return (await asked.json()).verification_uri_complete;
}

for (const [screen, options] of Object.entries(screens)) {
  const page = await fresh(options);
  await page.goto(plan.links.many);
  await page.screenshot({ path: `${plan.pictures}/login-${screen}.png` });
  await enter(page, plan.password);
  for (const name of ['many', 'notes', 'device']) {
    await page.goto(plan.links[name] ?? (await deviceLink()));
    if (name === 'device') {
      await page.getByRole('button', { name: 'Continue' }).click();
      await page.locator('.answers').waitFor();
      seen.flows.device = await page.locator('.scopes li').allTextContents();
    }
    await page.screenshot({ path: `${plan.pictures}/consent-${name}-${screen}.png` });
    const measured = await page.evaluate(async () => {
      const box = (each) => each.getBoundingClientRect();
      const bar = document.querySelector('.answers');
      const inView = [...bar.children].map((each) => {
        const { top, left, bottom, right } = box(each);
        return top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth;
      });
      const room = box(bar).top / innerHeight;
      // From the last to the first: each has to be scrolled to from below, and then from above.
      const others = [...document.querySelectorAll('form button, form input:not([type=hidden])')]
        .filter((each) => !bar.contains(each));
      const covered = [];
      for (const each of [...others].reverse().concat(others)) {
        document.activeElement.blur();
        each.focus();
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        if (box(each).bottom > box(bar).top || box(each).top < 0) covered.push(each.outerHTML);
      }
      scrollTo(0, document.documentElement.scrollHeight);
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const gap = box(bar).top - box(bar.previousElementSibling).bottom;
      return { inView, room, covered, focusable: others.length, gap, caution: bar.textContent };
    });
    seen.bars[`${name} ${screen}`] = measured;
  }
  await page.goto(plan.links.astray);
  await page.screenshot({ path: `${plan.pictures}/astray-${screen}.png` });
  await page.context().close();
}

// --- Flows, without scripts, by keyboard alone.

async function focused(page) {
  return page.locator(':focus').evaluate((each) => each.textContent || each.id);
}

async function tabTo(page, wanted) {
  for (let presses = 0; presses < 12; presses += 1) {
    if ((await focused(page)) === wanted) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`the keyboard does not reach ${wanted}`);
}

async function typeIn(page) {
  await tabTo(page, 'username');
  await page.keyboard.type(plan.user);
  await page.keyboard.press('Tab');
  await page.keyboard.type(plan.password);
  await page.keyboard.press('Enter');
}

async function flow(name, answer, remember = false, javaScriptEnabled = false) {
  const page = await fresh({ javaScriptEnabled });
  await page.goto(plan.links[name]);
  await typeIn(page);
  await page.waitForURL((url) => url.pathname === '/oauth/authorize');
  await page.keyboard.press('Tab');
  if (remember) {
    await tabTo(page, 'remember');
    await page.keyboard.press('Space');
  }
  await tabTo(page, answer);
  await page.keyboard.press('Enter');
  return page;
}

async function end(name, page) {
  await page.waitForURL((url) => ['/callback', '/done'].includes(url.pathname));
  seen.flows[name] = page.url();
  await page.context().close();
}

await end('allowed', await flow('notes', 'Allow'));
await end('denied', await flow('notes', 'Deny'));
await end('allowed with scripts', await flow('notes', 'Allow', false, true));
await end('handed on to another host', await flow('web', 'Allow', true));

// More than was allowed before is asked for.
for (const [appearance, options] of Object.entries(appearances)) {
  const page = await fresh(options);
  await page.goto(plan.links.more);
  await enter(page, plan.password);
  await look(page, appearance, 'more');
  seen.flows.more = await page.locator('h2, .scopes li').allTextContents();
  await page.context().close();
}

// Consent was given for good: the redirects after the login lead to the app, and on.
const again = await fresh({ javaScriptEnabled: false });
await again.goto(plan.links.web);
await typeIn(again);
await end('remembered', again);

// An app's own scheme opens nothing here; what counts is that the policy does not stop it.
const native = await flow('native', 'Allow');
await native.waitForTimeout(1000);
await native.context().close();

const switching = await flow('notes', 'Use another account');
await switching.waitForURL((url) => url.pathname === '/oauth/login');
await typeIn(switching);
await switching.waitForURL((url) => url.pathname === '/oauth/authorize');
seen.flows.switched = await switching.getByRole('heading', { level: 1 }).textContent();
await switching.context().close();

const guesser = await fresh(appearances.phone);
await guesser.goto(plan.links.notes);
for (let guess = 0; guess <= plan.wrongs; guess += 1) await enter(guesser, `guess ${guess}`);
seen.flows.throttled = await guesser.getByRole('alert').textContent();
for (const [appearance, options] of Object.entries(appearances)) {
  const page = await fresh(options);
  await page.goto(plan.links.notes);
  await enter(page, plan.password);
  await look(page, appearance, 'throttled');
  await page.context().close();
}

// --- What the script adds: a clock that counts down, and the password to be seen.

const clock = guesser.getByRole('timer');
seen.flows.clock = [await clock.textContent()];
await guesser.waitForTimeout(2100);
seen.flows.clock.push(await clock.textContent());
await guesser.clock.install();
await guesser.goto(plan.links.notes);
await enter(guesser, plan.password);
await guesser.clock.fastForward('02:00:00');
seen.flows.over = await guesser.getByRole('alert').textContent();

const field = guesser.getByLabel('Password');
await field.fill('what I typed');
seen.flows.password = [await field.getAttribute('type')];
for (const name of ['Show password', 'Hide password', 'Show password']) {
  await guesser.getByRole('button', { name }).click();
  seen.flows.password.push(await field.getAttribute('type'));
}
await guesser.screenshot({ path: `${plan.pictures}/shown-phone.png` });
// As the browser sees it when it asks whether to store the password.
await guesser.evaluate(() => addEventListener('submit', (event) => event.preventDefault()));
await field.press('Enter');
seen.flows.password.push(await field.getAttribute('type'));

const plain = await fresh({ javaScriptEnabled: false });
await plain.goto(plan.links.notes);
seen.flows.plainButtons = await plain.getByRole('button').allTextContents();
await enter(plain, plan.password);
seen.flows.plainThrottled = await plain.getByRole('alert').textContent();

await browser.close();
console.log(JSON.stringify(seen));
