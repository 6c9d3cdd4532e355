// Logs in with Chromium for a program that waits for the answer on loopback; prints, as JSON, what
// somebody sees at the end. Its one argument is JSON: {chromium, link, user, password, answer: the
// button that is pressed, appearance: options of the browser, picture: a file}.
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
// The landing page forbids all scripts: that of the accessibility check comes past its policy.
const context = await browser.newContext({ bypassCSP: true, ...plan.appearance });
const page = await context.newPage();
page.setDefaultTimeout(15000);
await page.goto(plan.link);
await page.getByLabel('Username').fill(plan.user);
await page.getByLabel('Password').fill(plan.password);
await page.getByRole('button', { name: 'Sign in' }).click();
await page.getByRole('button', { name: plan.answer, exact: true }).click();
await page.waitForURL((url) => url.pathname === '/callback');
await page.screenshot({ path: plan.picture });
await page.evaluate(axe);
const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
const seen = await page.evaluate(() => ({
  title: document.title,
  heading: document.querySelector('h1').textContent,
  text: document.querySelector('p').textContent,
  background: getComputedStyle(document.body).backgroundColor,
  tooWide: document.documentElement.scrollWidth > innerWidth,
}));
await browser.close();
console.log(JSON.stringify({
  ...seen,
  violations: violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`),
  checked: passes.map((each) => each.id),
}));
