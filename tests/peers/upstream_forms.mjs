// Somebody whose session has ended presses buttons on pages that are still open, in headless
// Chromium: each leads to the identity provider. Takes a plan as JSON, and prints, as JSON, the
// `prompt` of the authentication request by which each button led there, or what Chromium said.
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});

async function pressed(context, { path, button, fields = {}, ended = true }) {
  const page = await context.newPage();
  const said = [];
  page.on('console', (message) => said.push(message.text()));
  await page.goto(`${plan.url}/oauth/account`); // signs in by the session there, if it is needed
  await page.goto(plan.url + path);
  for (const [field, value] of Object.entries(fields)) {
    await page.locator(`input[name=${field}]`).fill(value);
  }
  // The provider has cookies of the same host.
  if (ended) await context.clearCookies({ name: /bearerguard_session/ });
  const [asked] = await Promise.allSettled([
    page.waitForRequest((each) => each.url().startsWith(`${plan.provider}/auth?`)),
    page.locator(button).click(),
  ]);
  await page.close();
  if (asked.status === 'rejected') return said.join('\n');
  return new URL(asked.value.url()).searchParams.get('prompt') ?? '';
}

try {
  const context = await browser.newContext();
  context.setDefaultTimeout(20000);
  const page = await context.newPage();
  const arrived = page.waitForRequest((each) => each.url().startsWith(plan.callback));
  await page.goto(plan.link);
  await page.locator('input[name=login]').fill(plan.user);
  await page.locator('input[name=password]').fill('any');
  await page.locator('button[type=submit]').click();
  // The identity provider asks for consent once.
  await page.locator('button[type=submit]').click();
  await arrived;
  const led = {};
  for (const form of plan.forms) led[form.name] = await pressed(context, form);
  console.log(JSON.stringify(led));
} finally {
  await browser.close();
}
