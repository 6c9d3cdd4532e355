// Somebody signs in at our server by an identity provider, in headless Chromium. Takes a plan as JSON:
// the link of an app, the name of the button, and who signs in. Prints the URL that the app gets.
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
try {
  const page = await browser.newPage();
  const arrived = page.waitForRequest((each) => each.url().startsWith(plan.callback));
  await page.goto(plan.link);
  if (plan.picture) await page.screenshot({ path: plan.picture, fullPage: true });
  await page.getByRole('button', { name: plan.button }).click();
  await page.locator('input[name=login]').fill(plan.user);
  await page.locator('input[name=password]').fill('any');
  await page.locator('button[type=submit]').click();
  // The identity provider asks for consent once.
  await page.locator('button[type=submit]').click();
  console.log((await arrived).url());
} finally {
  await browser.close();
}
