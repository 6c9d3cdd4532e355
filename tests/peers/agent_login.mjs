// Logs in with Chromium at the link that an agent shows, and consents. Its one argument is JSON:
// {chromium, link, user, password, profile: a directory that keeps the session, picture: a file,
// loginPicture: another one, if any}. Prints, as JSON, what the consent page says, and whether the
// password was asked for.
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const context = await chromium.launchPersistentContext(plan.profile, {
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(20000);
await page.goto(plan.link);
const allow = page.getByRole('button', { name: 'Allow', exact: true });
const username = page.getByLabel('Username');
await allow.or(username).first().waitFor();
const asked = await username.isVisible();
if (asked) {
  if (plan.loginPicture) await page.screenshot({ path: plan.loginPicture, fullPage: true });
  await username.fill(plan.user);
  await page.getByLabel('Password').fill(plan.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await allow.waitFor();
}
const consent = await page.locator('body').innerText();
await page.screenshot({ path: plan.picture, fullPage: true });
const origin = new URL(plan.link).origin;
await allow.click();
await page.waitForURL((url) => url.origin !== origin);
await context.close();
console.log(JSON.stringify({ consent, password: asked }));
