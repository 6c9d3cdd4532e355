// Drives the account page and the pages below it in Chromium, by keyboard and without scripts of its
// own; prints, as JSON, what somebody sees. Its one argument is JSON: {chromium, origin, user, password, another,
// pictures: a directory}.
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const seen = { violations: [], tooWide: [], console: [], said: [], looked: [], checked: 0 };
const account = `${plan.origin}/oauth/account`;
const tokens = `${account}/tokens`;

async function signedIn(options) {
  const page = await (await browser.newContext(options)).newPage();
  page.on('console', (message) => seen.console.push(message.text()));
  page.setDefaultTimeout(20000);
  await page.goto(`${plan.origin}/oauth/login`);
  await page.getByLabel('Username').focus();
  await page.keyboard.type(plan.user);
  await page.keyboard.press('Tab');
  await page.keyboard.type(plan.password);
  await page.keyboard.press('Enter');
  await page.waitForURL(account);
  return page;
}

async function look(page, name) {
  await page.screenshot({ path: `${plan.pictures}/account-${name}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  seen.checked += passes.length;
  seen.looked.push(name);
  for (const { id, nodes } of violations) seen.violations.push(`${name}: ${id}: ${nodes[0].html}`);
  if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) {
    seen.tooWide.push(name);
  }
}

async function press(page, name, key = 'Enter') {
  for (let presses = 0; presses < 150; presses += 1) {
    const focused = page.locator(':focus');
    if (await focused.count()) {
      const label = await focused.evaluate(
        (each) => each.getAttribute('aria-label') || each.textContent,
      );
      if (label === name) {
        await page.keyboard.press(key);
        return;
      }
    }
    await page.keyboard.press('Tab');
  }
  throw new Error(`the keyboard does not reach ${name}`);
}

async function end(page, name) {
  const before = page.url();
  await press(page, name);
  await page.waitForURL((url) => url.href !== before);
  seen.said.push(await page.getByRole('status').textContent());
}

// Makes a token by keyboard: its name, the days, and a scope.
async function make(page, name, ticked = true) {
  await page.goto(tokens);
  await page.getByLabel('Name').focus();
  await page.keyboard.type(name);
  await page.keyboard.press('Tab');
  await page.keyboard.type('7');
  if (ticked) {
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
  }
  await press(page, 'Make the token');
  await page.getByRole(ticked ? 'status' : 'alert').waitFor();
}

const appearances = {
  light: { colorScheme: 'light', viewport: { width: 1000, height: 800 } },
  dark: { colorScheme: 'dark', viewport: { width: 1000, height: 800 } },
  phone: { colorScheme: 'light', viewport: { width: 360, height: 720 }, deviceScaleFactor: 2 },
  'phone-dark': { colorScheme: 'dark', viewport: { width: 360, height: 720 }, deviceScaleFactor: 2 },
  // A laptop at 200 %.
  zoomed: { colorScheme: 'light', viewport: { width: 640, height: 360 }, deviceScaleFactor: 2 },
};
for (const [name, options] of Object.entries(appearances)) {
  const page = await signedIn(options);
  await look(page, name);
  await page.goto(`${account}/password`);
  await look(page, `password-${name}`);
  await page.goto(tokens);
  await look(page, `tokens-${name}`);
  await make(page, 'Nothing', false);
  await look(page, `tokens-wrong-${name}`);
  await make(page, `Backup of ${name}`);
  await look(page, `tokens-made-${name}`);
}

// By keyboard alone, and without scripts.
const page = await signedIn({ javaScriptEnabled: false });
await end(page, 'End access: App 003');
await page.reload();
seen.reloaded = await page.getByRole('status').textContent();
await page.getByRole('link', { name: 'Next page' }).focus();
await press(page, 'Next page');
await page.waitForURL('**page=2');
seen.second = await page.getByRole('heading', { level: 3 }).first().textContent();
await end(page, 'Sign out everywhere else');
await end(page, 'End access of all apps');
await press(page, 'Your access tokens');
await page.waitForURL(tokens);
await make(page, 'By keyboard');
seen.made = await page.locator('.who code').textContent();
await press(page, 'End the token By keyboard');
await page.getByRole('status').waitFor({ state: 'detached' });
seen.tokens = await page.locator('.list .title').allTextContents();
await press(page, 'Your account');
await page.waitForURL(account);
await press(page, 'Change your password');
await page.waitForURL(`${account}/password`);
await page.getByLabel('Current password').focus();
for (const text of [plan.password, plan.another, plan.another]) {
  await page.keyboard.type(text);
  await page.keyboard.press('Tab');
}
await end(page, 'Change the password');
seen.left = await page.getByRole('heading', { level: 3 }).allTextContents();

await browser.close();
console.log(JSON.stringify(seen));
