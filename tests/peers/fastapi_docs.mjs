// Signs in on the docs of a FastAPI app in Chromium, and tries the API out; prints, as JSON, what
// came of it. Its one argument is JSON: {chromium, api, isOurs: whose pages the sign-in has, user,
// password, pictures: a directory}.
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const context = await browser.newContext({ viewport: { width: 1000, height: 1000 } });
context.setDefaultTimeout(30000);
const seen = { console: [] };
context.on('console', (message) => seen.console.push(message.text()));
const page = await context.newPage();
const picture = (of, name) => of.screenshot({ path: `${plan.pictures}/${name}.png` });

try {
  await page.goto(`${plan.api}/docs`);
  // Swagger UI offers what it knows when the button is pressed: the issuer's metadata may still be
  // on its way. A person presses it again.
  for (;;) {
    await page.locator('.auth-wrapper .authorize').first().click();
    const offered = page.locator('.auth-container').first().waitFor({ timeout: 1000 });
    if (await offered.then(() => true, () => false)) break;
    await page.locator('.close-modal').first().click();
  }
  await picture(page, 'scheme');
  // The flow with a login in the browser; another flow has a form of its own.
  const form = page.locator('.auth-container', { hasText: /PKCE|authorization_?code/i }).first();
  const box = form.locator('input[type=checkbox][data-value=read]');
  if (!(await box.isChecked())) {
    await form.locator('label', { has: page.locator('.name', { hasText: /^read$/ }) }).click();
  }
  const opened = page.waitForEvent('popup');
  await form.locator('.auth-btn-wrapper .authorize').click();
  const popup = await opened;
  const closed = popup.waitForEvent('close');
  if (plan.isOurs) {
    await popup.getByLabel('Username').fill(plan.user);
    await popup.getByLabel('Password').fill(plan.password);
    await picture(popup, 'login');
    await popup.getByRole('button', { name: 'Sign in' }).click();
    await popup.getByRole('button', { name: 'Allow' }).waitFor();
    await picture(popup, 'consent');
    await popup.getByRole('button', { name: 'Allow' }).click();
  } else {
    await popup.locator('input[name=login]').fill(plan.user);
    await popup.locator('input[name=password]').fill(plan.password);
    await picture(popup, 'login');
    await popup.locator('button[type=submit]').click();
    await popup.getByRole('button', { name: 'Continue' }).waitFor();
    await picture(popup, 'consent');
    await popup.getByRole('button', { name: 'Continue' }).click();
  }
  await closed;
  await page.locator('.auth-container', { hasText: 'Logout' }).first().waitFor();
  await picture(page, 'authorized');
  await page.locator('.auth-btn-wrapper .btn-done').first().click();
  await page.locator('.opblock-summary-control').first().click();
  await page.locator('.try-out__btn').first().click();
  const answered = page.waitForResponse(
    (each) => each.url().endsWith('/api/recordings') && each.request().method() === 'GET',
  );
  await page.locator('.execute').first().click();
  const answer = await answered;
  await page.locator('.live-responses-table .highlight-code').first().waitFor();
  await picture(page, 'tried');
  seen.status = answer.status();
  seen.body = await answer.json();
  seen.documented = await page.locator('td.response-col_status').allTextContents();
} catch (error) {
  seen.failure = String(error);
  for (const [index, each] of context.pages().entries()) await picture(each, `failed-${index}`);
}
await browser.close();
console.log(JSON.stringify(seen));
