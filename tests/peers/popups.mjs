// Signs in by Swagger UI and by oidc-client-ts in Chromium; prints, as JSON, what came of it.
// Its one argument is JSON: {chromium, api, pages: the origin of the app's pages, user, password,
// pictures: a directory}.
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
// What a step that failed had begun fails when its page is closed.
process.on('unhandledRejection', (error) => seen.failures.push(String(error)));
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const seen = { sent: {}, console: [], failures: [] };

async function fresh() {
  const context = await browser.newContext({ viewport: { width: 1000, height: 900 } });
  context.setDefaultTimeout(15000);
  context.on('console', (message) => seen.console.push(message.text()));
  context.on('request', (request) => {
    const { pathname } = new URL(request.url());
    if (!/^\/(oauth|api|\.well-known)\//.test(pathname)) return;
    const names = Object.keys(request.headers()).filter((name) => !/^(sec-|user-agent)/.test(name));
    const name = `${request.method()} ${pathname}`;
    seen.sent[name] = [...new Set([...(seen.sent[name] ?? []), ...names])].sort();
  });
  return context.newPage();
}

async function picture(page, name) {
  await page.screenshot({ path: `${plan.pictures}/${name}.png` });
}

async function signIn(page, name) {
  await page.getByLabel('Username').fill(plan.user);
  await page.getByLabel('Password').fill(plan.password);
  await picture(page, `${name}-login`);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await allow(page, name);
}

async function allow(page, name) {
  await page.getByRole('button', { name: 'Allow' }).waitFor();
  await picture(page, `${name}-consent`);
  await page.getByRole('button', { name: 'Allow' }).click();
}

// --- Swagger UI: "Authorize" opens a popup, "Try it out" uses the token.

async function swagger() {
  const page = await fresh();
  await page.goto(`${plan.pages}/ui/docs`);
  await page.locator('.auth-wrapper .authorize').first().click();
  await page.locator('.auth-container').waitFor();
  const box = page.locator('.auth-container input[type=checkbox]').first();
  if (!(await box.isChecked())) await page.locator('.auth-container .scopes label').last().click();
  const opened = page.waitForEvent('popup');
  await page.locator('.auth-btn-wrapper .authorize').click();
  const popup = await opened;
  const closed = popup.waitForEvent('close');
  await signIn(popup, 'swagger');
  await closed;
  await page.locator('.auth-container', { hasText: 'Logout' }).waitFor();
  await picture(page, 'swagger-authorized');
  await page.locator('.auth-btn-wrapper .btn-done').click();
  await page.locator('.opblock-summary-control').click();
  await page.locator('.try-out__btn').click();
  const answered = page.waitForResponse(
    (each) => each.url().endsWith('/api/recordings') && each.request().method() === 'GET',
  );
  await page.locator('.execute').click();
  const answer = await answered;
  await page.locator('.live-responses-table .highlight-code').first().waitFor();
  await picture(page, 'swagger-tried');
  seen.swagger = { status: answer.status(), body: await answer.json() };
  await page.context().close();
}

// --- oidc-client-ts, with the scopes that its users ask for.

function described(user) {
  return user && { token: user.access_token.split('.').length, scope: user.scope, hasRefresh: !!user.refresh_token };
}

async function callApi(page, user) {
  return page.evaluate(
    ([url, token]) =>
      fetch(url, { headers: { Authorization: `Bearer ${token}` } }).then((each) => each.status),
    [`${plan.api}/api/recordings`, user.access_token],
  );
}

async function popup(scope) {
  const page = await fresh();
  await page.goto(`${plan.pages}/ui/app`);
  const opened = page.waitForEvent('popup');
  const asked = page.evaluate((each) => manager(each).signinPopup(), scope);
  const window = await opened;
  await signIn(window, 'oidc-popup');
  const user = await asked;
  seen[`popup ${scope}`] = { ...described(user), status: await callApi(page, user) };
  const renewed = await page.evaluate((each) => manager(each).signinSilent(), scope);
  seen[`renewed ${scope}`] = {
    ...described(renewed),
    isNew: renewed.access_token !== user.access_token,
    status: await callApi(page, renewed),
  };
  await page.context().close();
}

async function redirect(scope) {
  const page = await fresh();
  await page.goto(`${plan.pages}/ui/app`);
  await page.evaluate((each) => void manager(each).signinRedirect(), scope);
  await page.waitForURL('**/oauth/login**');
  await signIn(page, 'oidc-redirect');
  await page.waitForURL('**/ui/back**');
  const user = await page.evaluate(() => window.came);
  seen[`redirect ${scope}`] = { ...described(user), failed: await page.evaluate(() => window.failed) };
  await picture(page, 'oidc-back');
  await page.context().close();
}

// --- Without a refresh token, in an invisible frame: nothing may be asked there.

async function frame(scope) {
  const page = await fresh();
  await page.goto(`${plan.pages}/ui/app`);
  const silently = (each) =>
    manager(each).signinSilent({ forceIframeAuth: true }).then(
      (user) => ({ user }),
      (error) => ({ error: error.error ?? String(error) }),
    );
  seen['frame of a stranger'] = await page.evaluate(silently, scope);
  const opened = page.waitForEvent('popup');
  const asked = page.evaluate((each) => manager(each).signinPopup(), scope);
  const window = await opened;
  await window.getByLabel('Username').fill(plan.user);
  await window.getByLabel('Password').fill(plan.password);
  await window.getByRole('button', { name: 'Sign in' }).click();
  await allow(window, 'oidc-frame');
  await asked;
  seen['frame of the user'] = await page.evaluate(silently, scope);
  await page.context().close();
}

for (const step of [
  swagger,
  () => popup('read'),
  () => popup('openid read offline_access'),
  () => redirect('openid read'),
  () => frame('read'),
]) {
  try {
    await step();
  } catch (error) {
    seen.failures.push(String(error));
  }
}
await browser.close();
console.log(JSON.stringify(seen));
